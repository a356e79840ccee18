"""Names of modules in LoRA files: every dialect's spelling of every key of a model.

An underscored name cannot be split back into a path (`to_out_0` is `to_out.0`), so no name is parsed. Each key of the
model is spelled in every dialect, and the names in a file are looked up among the spellings. Sources:
kohya-ss/sd-scripts networks/lora.py, diffusers and PEFT state dicts, OneTrainer, and which spellings ComfyUI takes
(comfy/lora.py). No torch here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from ..formats.dialects import DIALECTS
from .mmdit import Place, Slice, Target, diffusers_targets, xlabs_targets
from .unet import UNET, diffusers_unet, numbered_names

_PEFT, _WEIGHT = "base_model.model.", ".weight"
_OWN_STACKS = (
    "double_blocks.",
    "single_blocks.",
    "img_in",
    "txt_in",
    "time_in.",
    "vector_in.",
    "guidance_in.",
    "final_layer.",
)  # Flux, as BFL names it


def name_map(keys: Iterable[str]) -> dict[str, str]:
    """The module names of all dialects -> the model's keys. A name that two keys share is left out.

    `keys` are a model's state-dict keys: `diffusion_model.*`, `clip_l.transformer.*` and the like, our dual CLIP's
    `text_model.*` / `vision_model.*`, or any network's. `target_map` has the names of rows of a weight too.
    """
    keys = list(keys)
    # Spell every key in every way. A name that a second key has too could mean either: it is unclear.
    names: dict[str, str] = {}
    unclear: set[str] = set()
    for key, dialects in _spell(keys).items():
        for spelled in dialects.values():
            for name in spelled:
                if names.setdefault(name, key) != key:
                    unclear.add(name)
    names = {name: key for name, key in names.items() if name not in unclear}
    # cloneofsimo's names are numbers, which no other dialect can mean.
    return names | numbered_names(keys)


def target_map(shapes: Mapping[str, Sequence[int]]) -> Mapping[str, Target]:
    """The module names of all dialects -> their targets: `name_map`, and the names of rows or of swapped halves.

    diffusers names rows of the fused q, k and v of Flux and SD3, and swaps the halves of the last adaptive norm. The
    maps of the last four models are kept, so that a second LoRA on one model does not spell its keys again; the result
    is read-only.
    """
    return _target_map(tuple((key, tuple(shape)) for key, shape in shapes.items()))


@lru_cache(maxsize=4)
def _target_map(items: tuple[tuple[str, tuple[int, ...]], ...]) -> Mapping[str, Target]:
    shapes = dict(items)
    names = {name: Target(key) for name, key in name_map(shapes).items()}
    for dialects, target in _spell_parts(shapes):
        for spelled in dialects.values():
            for name in spelled:
                names[name] = target
    return MappingProxyType(names)


def spellings(shapes: Iterable[str] | Mapping[str, Sequence[int]], dialect: str) -> dict[Place, str]:
    """The places of a model -> the module names to write for them in a dialect; `target_map` maps them back.

    A place without a name in the dialect is missing. Keys without shapes give whole weights only.

    Raises:
        ValueError: the dialect is unknown.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"the dialect is {dialect!r}: expected one of {', '.join(DIALECTS)}")
    keys = list(shapes)
    clear = name_map(keys)
    if dialect == "cloneofsimo":
        return {key: name for name, key in numbered_names(keys).items()}
    # Whole weights: the first spelling of the dialect that means this key and no other.
    chosen: dict[Place, str] = {}
    for key, dialects in _spell(keys).items():
        if name := next((name for name in dialects.get(dialect, ()) if clear.get(name) == key), None):
            chosen[key] = name
    # Rows of weights: fused q, k and v have a name for each. A weight with swapped halves is written by its whole name.
    for dialects, target in _spell_parts(shapes if isinstance(shapes, Mapping) else {}):
        if dialect in dialects and not target.swapped:
            chosen[target.place] = dialects[dialect][0]
    return chosen


def _spell(keys: list[str]) -> dict[str, dict[str, list[str]]]:
    """The spellings of each key: key -> dialect -> names, the name to write first."""
    # How an encoder is numbered depends on which encoders the model has: "clip_l", "clip_g", "t5xxl".
    present = {key.partition(".")[0] for key in keys if ".transformer." in key}
    # diffusers' block numbers depend on which modules the UNet has.
    unet = [key[len(UNET) : -len(_WEIGHT)] for key in keys if key.startswith(UNET) and key.endswith(_WEIGHT)]
    diffusers = diffusers_unet(unet)
    ldm_first = any(module.startswith("label_emb.") for module in unet)  # kohya names SDXL the LDM way, SD1 and SD2 not
    spelled: dict[str, dict[str, list[str]]] = {}
    for key in keys:
        # A module's name stands for its weight. Other tensors, such as norm scales, are found under their full names.
        if not key.endswith(_WEIGHT):
            if key.startswith(UNET):
                spelled[key] = {"kohya": [], "diffusers": [key], "peft": [], "bfl": _bare(key[len(UNET) :])}
            continue
        module = key[: -len(_WEIGHT)]
        if module.startswith(UNET):
            module = module[len(UNET) :]
            spelled[key] = _spell_unet(module, diffusers.get(module, ()), ldm_first)
        else:
            spelled[key] = _spell_other(module, present)
    return spelled


def _bare(name: str) -> list[str]:
    """BFL's spelling: the model's own name, where the model has BFL's layers."""
    return [name] if name.startswith(_OWN_STACKS) else []


def _spell_unet(module: str, diffusers: tuple[str, ...], ldm_first: bool) -> dict[str, list[str]]:
    """The spellings of a diffusion model's module, whose diffusers names are given: dialect -> names."""
    # kohya flattens either the LDM name or the diffusers name.
    plain = [f"lora_unet_{_flat(module)}"]
    theirs = [f"lora_unet_{_flat(name)}" for name in diffusers]
    # diffusers before 0.20 kept a LoRA in the attention's processor: attn1.processor.to_q, and to_out without .0.
    processors = [name.replace(".to_", ".processor.to_") for name in diffusers if ".to_" in name]
    processors = [name.removesuffix(".0") if name.endswith(".to_out.0") else name for name in processors]
    dotted = [*diffusers, *processors]
    return {
        "kohya": (plain + theirs if ldm_first else theirs + plain)
        + [f"oft_unet_{_flat(name)}" for name in (module, *diffusers)]
        + [f"lora_prior_unet_{_flat(module)}"],
        "diffusers": [f"unet.{name}" for name in dotted] + [UNET + module] + dotted,
        "peft": [f"{start}{name}" for start in (_PEFT, f"unet.{_PEFT}") for name in diffusers]
        + [_PEFT + UNET + module, _PEFT + module],
        "lycoris": [f"lycoris_{_flat(name)}" for name in (*diffusers, module)],
        "onetrainer": theirs + plain,
        "diffusers_0.2": [f"unet.{name}" for name in diffusers],
        "diffusers_0.1": [f"unet.{name}" for name in processors if ".processor." in name],
        "bfl": _bare(module),
    }


def _spell_parts(shapes: Mapping[str, Sequence[int]]) -> list[tuple[dict[str, list[str]], Target]]:
    """The spellings of Flux and SD3 by diffusers and XLabs, rows of weights included: (dialect -> names, target)."""
    # mmdit.py knows the modules without the prefix and the ending of the model's keys.
    modules = {
        key[len(UNET) : -len(_WEIGHT)]: shape
        for key, shape in shapes.items()
        if key.startswith(UNET) and key.endswith(_WEIGHT)
    }
    spelled: list[tuple[dict[str, list[str]], Target]] = []
    for name, target in diffusers_targets(modules).items():
        spelled.append(
            (
                {
                    "diffusers": [f"transformer.{name}", name],
                    "diffusers_0.2": [f"transformer.{name}"],
                    "peft": [_PEFT + name, f"transformer.{_PEFT}{name}"],
                    "lycoris": [f"lycoris_{_flat(name)}"],
                    "onetrainer": [f"lora_transformer_{_flat(name)}"],
                },
                _in_unet(target),
            )
        )
    for name, target in xlabs_targets(modules).items():
        spelled.append(({"xlabs": [name, UNET + name]}, _in_unet(target)))
    return spelled


def _in_unet(target: Target) -> Target:
    """The same target with the prefix and the ending of the model's own keys."""
    if isinstance(target.place, Slice):
        return Target(Slice(f"{UNET}{target.place.key}{_WEIGHT}", target.place.rows), target.swapped)
    return Target(f"{UNET}{target.place}{_WEIGHT}", target.swapped)


def _spell_other(module: str, present: set[str]) -> dict[str, list[str]]:
    """The spellings of a module of a text encoder, of our dual CLIP, or of any other network: dialect -> names."""
    # "clip_l.transformer.text_model.x" is encoder clip_l's own text_model.x; other networks have no owner.
    owner, inside, own = module.partition(".transformer.")
    if not inside:
        owner, own = "", module
    kohya, dotted = _prefixes(owner, own, present)
    short = [own.removeprefix("text_model.")] if own.startswith("text_model.") else []  # transformers 5 drops it
    names = {
        "kohya": [f"{prefix}_{_flat(own)}" for prefix in kohya],
        "diffusers": [f"{prefix}.{name}" for prefix in dotted for name in [own, *short]] + [module, own],
        "peft": [_PEFT + own] + [f"{prefix}.{_PEFT}{own}" for prefix in dotted] + [_PEFT + module],
        "onetrainer": [f"{prefix}_{_flat(own)}" for prefix in reversed(kohya)],
        "lycoris": [f"lycoris_{_flat(own)}"] if not owner else [],
        "diffusers_0.2": [f"{prefix}.{own}" for prefix in dotted],
    }
    # ComfyUI's own names with its prefix for text encoders, which some trainers save.
    generic = [f"text_encoders.{module}"]
    if inside and not owner.startswith("clip_"):
        generic.append(f"text_encoders.transformer.{own}")
    names["diffusers"] += generic + ([f"{owner}.{own}"] if owner else [])
    for other in _openai_resnet(own):
        names["kohya"] += [f"{prefix}_{_flat(other)}" for prefix in kohya]
        names["diffusers"].append(other)
        names["peft"].append(_PEFT + other)
    return names


def _openai_resnet(own: str) -> list[str]:
    """OpenAI's name of a module of our ResNet image encoders, which Hugging Face does not have."""
    if own == "visual_projection":
        return ["visual.attnpool.c_proj"]
    found = re.fullmatch(r"vision_model\.((layer\d|conv\d|attnpool)\b.*)", own)
    return [f"visual.{found[1]}"] if found else []


def _prefixes(owner: str, own: str, present: set[str]) -> tuple[list[str], list[str]]:
    """The (kohya, dotted) prefixes of an encoder, the prefix to write first, given which encoders the model has.

    Tools count encoders in the order of the pipeline and leave the number out where there is one encoder, so a lone
    CLIP-G of the SDXL refiner is `lora_te` in some files and `lora_te2` in others.
    """
    both = "clip_l" in present
    if owner in ("clip_l", "clip_h"):
        numbered = "clip_g" in present or "t5xxl" in present
        return (["lora_te1", "lora_te"] if numbered else ["lora_te", "lora_te1"]), ["text_encoder"]
    if owner == "clip_g":
        if both:
            return ["lora_te2", "lora_prior_te"], ["text_encoder_2"]
        return ["lora_te", "lora_te2", "lora_prior_te"], ["text_encoder", "text_encoder_2"]
    if owner == "t5xxl":
        place = 1 + both + ("clip_g" in present)
        two_names = both and "clip_g" not in present  # Flux: OneTrainer counts it as te2, kohya as te3
        return [f"lora_te{n}" for n in ([3, 2] if two_names else [place])], [f"text_encoder_{place}"]
    if own.startswith(("text_model.", "text_projection")):
        return ["lora_te"], ["text_encoder"]
    if own.startswith(("vision_model.", "visual_projection")):
        return ["lora_vision"], ["image_encoder"]
    return ["lora"], []


def _flat(module: str) -> str:
    return module.replace(".", "_")
