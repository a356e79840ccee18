"""What a model's weights are called in LoRA files: every dialect's spelling of every key, from the model's own keys.

Underscored names cannot be parsed back (`to_out_0`), so nothing is parsed: each key is spelled in all known ways and
the file's names are looked up. Sources: kohya-ss/sd-scripts networks/lora.py, diffusers and PEFT state dicts,
OneTrainer, cloneofsimo/lora, and which spellings ComfyUI takes (comfy/lora.py). No torch here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from .mmdit import Place, Slice, Target, diffusers_targets, xlabs_targets

DIALECTS = (
    "kohya",
    "diffusers",
    "peft",
    "lycoris",
    "onetrainer",
    "diffusers_0.2",
    "diffusers_0.1",
    "xlabs",
    "bfl",
    "cloneofsimo",
)
_UNET, _PEFT, _WEIGHT = "diffusion_model.", "base_model.model.", ".weight"
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

_WHOLE = {  # LDM: diffusers, for the modules outside the numbered blocks
    "input_blocks.0.0": ("conv_in",),
    "out.0": ("conv_norm_out",),
    "out.2": ("conv_out",),
    "time_embed.0": ("time_embedding.linear_1",),
    "time_embed.2": ("time_embedding.linear_2",),
    "label_emb.0.0": ("add_embedding.linear_1", "class_embedding.linear_1"),
    "label_emb.0.2": ("add_embedding.linear_2", "class_embedding.linear_2"),
    "middle_block.0": ("mid_block.resnets.0",),
    "middle_block.1": ("mid_block.attentions.0",),
    "middle_block.2": ("mid_block.resnets.1",),
}
_RESNET = {  # LDM: diffusers, inside a residual block
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET_CLONEOFSIMO = [f"{a}.{p}" for a in ("attn1", "attn2") for p in ("to_q", "to_k", "to_v", "to_out.0")]
_UNET_CLONEOFSIMO.insert(4, "ff.net.0.proj")
_TEXT_CLONEOFSIMO = ("k_proj", "v_proj", "q_proj", "out_proj")  # the order in which transformers registers them


def name_map(keys: Iterable[str]) -> dict[str, str]:
    """Module name in any dialect -> the model's key. A spelling that could mean two keys means none.

    `keys` are a model's state-dict keys: `diffusion_model.*`, `clip_l.transformer.*` and the like, our dual CLIP's
    `text_model.*` / `vision_model.*`, or any module's. Names of parts of a weight are in `target_map`.
    """
    keys = list(keys)
    names: dict[str, str] = {}
    unclear = set()
    for key, dialects in _spell(keys).items():
        for spelled in dialects.values():
            for name in spelled:
                if names.setdefault(name, key) != key:
                    unclear.add(name)
    names = {name: key for name, key in names.items() if name not in unclear}
    return names | _numbered(keys)


def target_map(shapes: Mapping[str, Sequence[int]]) -> Mapping[str, Target]:
    """As `name_map`, with the names that mean rows of a weight (Flux', SD3's q, k, v) or a weight turned over.

    Kept for the last few models: a second LoRA on the same one does not spell its keys again. Not to be changed.
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
    """Where in the model -> the module name to write for it in a dialect; read back by `target_map`.

    Places a dialect has no name for are missing. From keys without shapes there are only whole weights.

    Raises:
        ValueError: another dialect.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"the dialect is {dialect!r}: expected one of {', '.join(DIALECTS)}")
    keys = list(shapes)
    clear = name_map(keys)
    if dialect == "cloneofsimo":
        return {key: name for name, key in _numbered(keys).items()}
    chosen: dict[Place, str] = {}
    for key, dialects in _spell(keys).items():
        if name := next((name for name in dialects.get(dialect, ()) if clear.get(name) == key), None):
            chosen[key] = name
    for dialects, target in _spell_parts(shapes if isinstance(shapes, Mapping) else {}):
        if dialect in dialects and not target.swapped:  # what is turned over has a name of its own in the model
            chosen[target.place] = dialects[dialect][0]
    return chosen


def diffusers_unet(modules: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """LDM module -> its diffusers names, for SD1, SD2, SDXL and the refiner, from which modules exist.

    A level of `input_blocks` ends with a downsampler (`op`), one of `output_blocks` with an upsampler (`conv`), so
    counting the blocks in order gives the diffusers numbers.
    "input_blocks.4.1.proj_in" -> "down_blocks.1.attentions.0.proj_in"
    """
    modules = list(modules)
    table = dict(_WHOLE)
    for section, prefix in (("input_blocks", "down_blocks"), ("output_blocks", "up_blocks")):
        level, place = 0, -(section == "input_blocks")  # conv_in counts as a block
        for number, parts in sorted(_children(modules, section).items()):
            for part, inside in sorted(parts.items()):
                at = f"{section}.{number}.{part}"
                if at in table:
                    continue  # conv_in
                if inside & {"op", "conv"}:
                    sampler = "downsamplers" if "op" in inside else "upsamplers"
                    table[at] = (f"{prefix}.{level}.{sampler}.0",)
                    level, place = level + 1, -1
                else:
                    kind = "resnets" if "in_layers" in inside else "attentions"
                    table[at] = (f"{prefix}.{level}.{kind}.{place}",)
            place += 1
    return {module: names for module in modules if (names := _unet_module(module, table))}


def _children(modules: list[str], section: str) -> dict[int, dict[int, set[str]]]:
    """section.N.M.child... -> {N: {M: {child, ...}}}"""
    found: dict[int, dict[int, set[str]]] = {}
    for module in modules:
        parts = module.split(".")
        if parts[0] == section and len(parts) > 2 and parts[1].isdecimal() and parts[2].isdecimal():
            found.setdefault(int(parts[1]), {}).setdefault(int(parts[2]), set()).update(parts[3:4])
    return found


def _unet_module(module: str, table: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    if module in table:
        return table[module]
    parts = module.split(".")
    for length in (3, 2):
        if names := table.get(".".join(parts[:length])):
            rest = ".".join(parts[length:])
            rest = "conv" if rest == "op" else _RESNET.get(rest, rest)
            return tuple(f"{name}.{rest}" for name in names)
    return ()


def _spell(keys: list[str]) -> dict[str, dict[str, list[str]]]:
    """key -> dialect -> its names, the one to write first."""
    present = {key.partition(".")[0] for key in keys if ".transformer." in key}
    unet = [key[len(_UNET) : -len(_WEIGHT)] for key in keys if key.startswith(_UNET) and key.endswith(_WEIGHT)]
    diffusers = diffusers_unet(unet)
    ldm_first = any(module.startswith("label_emb.") for module in unet)  # kohya names SDXL the LDM way, SD1 and SD2 not
    spelled = {}
    for key in keys:
        if not key.endswith(_WEIGHT):
            if key.startswith(_UNET):
                spelled[key] = {"kohya": [], "diffusers": [key], "peft": [], "bfl": _bare(key[len(_UNET) :])}
            continue
        module = key[: -len(_WEIGHT)]
        if module.startswith(_UNET):
            module = module[len(_UNET) :]
            spelled[key] = _spell_unet(module, diffusers.get(module, ()), ldm_first)
        else:
            spelled[key] = _spell_other(module, present)
    return spelled


def _bare(name: str) -> list[str]:
    return [name] if name.startswith(_OWN_STACKS) else []


def _spell_unet(module: str, diffusers: tuple[str, ...], ldm_first: bool) -> dict[str, list[str]]:
    plain = [f"lora_unet_{_flat(module)}"]
    theirs = [f"lora_unet_{_flat(name)}" for name in diffusers]
    processors = [name.replace(".to_", ".processor.to_") for name in diffusers if ".to_" in name]
    processors = [name.removesuffix(".0") if name.endswith(".to_out.0") else name for name in processors]
    dotted = [*diffusers, *processors]
    return {
        "kohya": (plain + theirs if ldm_first else theirs + plain)
        + [f"oft_unet_{_flat(name)}" for name in (module, *diffusers)]
        + [f"lora_prior_unet_{_flat(module)}"],
        "diffusers": [f"unet.{name}" for name in dotted] + [_UNET + module] + dotted,
        "peft": [f"{start}{name}" for start in (_PEFT, f"unet.{_PEFT}") for name in diffusers]
        + [_PEFT + _UNET + module, _PEFT + module],
        "lycoris": [f"lycoris_{_flat(name)}" for name in (*diffusers, module)],
        "onetrainer": theirs + plain,
        "diffusers_0.2": [f"unet.{name}" for name in diffusers],
        "diffusers_0.1": [f"unet.{name}" for name in processors if ".processor." in name],
        "bfl": _bare(module),
    }


def _spell_parts(shapes: Mapping[str, Sequence[int]]) -> list[tuple[dict[str, list[str]], Target]]:
    """The names of diffusers' Flux and SD3, and of XLabs: dialect -> names, with where they lie."""
    modules = {
        key[len(_UNET) : -len(_WEIGHT)]: shape
        for key, shape in shapes.items()
        if key.startswith(_UNET) and key.endswith(_WEIGHT)
    }
    spelled = []
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
        spelled.append(({"xlabs": [name, _UNET + name]}, _in_unet(target)))
    return spelled


def _in_unet(target: Target) -> Target:
    """With the prefix and the ending of the model's own keys."""
    if isinstance(target.place, Slice):
        return Target(Slice(f"{_UNET}{target.place.key}{_WEIGHT}", target.place.rows), target.swapped)
    return Target(f"{_UNET}{target.place}{_WEIGHT}", target.swapped)


def _spell_other(module: str, present: set[str]) -> dict[str, list[str]]:
    """A text encoder's module, our dual CLIP's, or any other network's."""
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
    """What OpenAI calls a module of our ResNet image encoders, of which Hugging Face has none."""
    if own == "visual_projection":
        return ["visual.attnpool.c_proj"]
    found = re.fullmatch(r"vision_model\.((layer\d|conv\d|attnpool)\b.*)", own)
    return [f"visual.{found[1]}"] if found else []


def _prefixes(owner: str, own: str, present: set[str]) -> tuple[list[str], list[str]]:
    """The kohya prefixes and the dotted ones of an encoder, given which encoders the model has."""
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


def _numbered(keys: list[str]) -> dict[str, str]:
    """cloneofsimo's `unet:N` and `text_encoder:N`: layers in the order in which diffusers registers them.

    Down blocks, up blocks, then the middle (registered last); only UNets with one transformer block per attention
    (SD1, SD2) ever had this format.
    """
    blocks = sorted(
        key.split(".transformer_blocks.")[0]
        for key in keys
        if key.startswith(_UNET) and key.endswith(".transformer_blocks.0.attn1.to_q.weight")
    )
    deeper = any(key.startswith(_UNET) and ".transformer_blocks.1." in key for key in keys)
    layers = [
        f"{block}.transformer_blocks.0.{layer}.weight"
        for block in sorted(blocks, key=_register_order)
        for layer in _UNET_CLONEOFSIMO
    ]
    names = {f"unet:{n}": key for n, key in enumerate([] if deeper else layers)}
    start = next(
        (
            s
            for s in ("clip_l.transformer.", "clip_h.transformer.", "")
            if f"{s}text_model.encoder.layers.0.self_attn.k_proj.weight" in keys
        ),
        None,
    )
    if start is not None:
        path = start + "text_model.encoder.layers."
        count = len({key[len(path) :].partition(".")[0] for key in keys if key.startswith(path)})
        text = [f"{path}{n}.self_attn.{p}.weight" for n in range(count) for p in _TEXT_CLONEOFSIMO]
        names |= {f"text_encoder:{n}": key for n, key in enumerate(text)}
    known = set(keys)
    return {name: key for name, key in names.items() if key in known}


def _register_order(block: str) -> tuple[int, list[int]]:
    section = next((n for n, part in enumerate(("input_blocks", "output_blocks")) if part in block), 2)
    return section, [int(part) for part in block.split(".") if part.isdecimal()]


def _flat(module: str) -> str:
    return module.replace(".", "_")
