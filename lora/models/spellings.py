"""Names of modules as tools write them: the spellings of every key of a model in each dialect. No torch here.

Sources: kohya-ss/sd-scripts networks/lora.py, diffusers and PEFT state dicts, OneTrainer, and which spellings ComfyUI
takes (comfy/lora.py).
"""

import re

from ..families.text_encoders import ENCODERS

_PEFT = "base_model.model."


def flat(module: str) -> str:
    """kohya's spelling of a path: "attn.to_out.0" -> "attn_to_out_0"."""
    return module.replace(".", "_")


def spell_unet(module: str, diffusers: tuple[str, ...], ldm_first: bool) -> dict[str, list[str]]:
    """The spellings of a diffusion model's module, whose UNet names in diffusers are given: dialect -> names."""
    # kohya flattens either the LDM name or the diffusers name.
    plain = [f"lora_unet_{flat(module)}"]
    theirs = [f"lora_unet_{flat(name)}" for name in diffusers]
    # diffusers before 0.20 kept a LoRA in the attention's processor: attn1.processor.to_q, and to_out without .0.
    processors = [name.replace(".to_", ".processor.to_") for name in diffusers if ".to_" in name]
    processors = [name.removesuffix(".0") if name.endswith(".to_out.0") else name for name in processors]
    return {
        "kohya": plain + theirs if ldm_first else theirs + plain,
        "diffusers": [f"unet.{name}" for name in (*diffusers, *processors)] + [f"diffusion_model.{module}"],
        "peft": [_PEFT + name for name in (*diffusers, f"diffusion_model.{module}", module)],
        "lycoris": [f"lycoris_{flat(name)}" for name in (*diffusers, module)],
        "onetrainer": theirs + plain,
        "diffusers_0.2": [f"unet.{name}" for name in diffusers],
        "diffusers_0.1": [f"unet.{name}" for name in processors if ".processor." in name],
    }


def spell_part(name: str, tool: str) -> dict[str, str]:
    """The spellings of a module that diffusers or XLabs names so in a model that is no UNet: dialect -> name."""
    if tool == "xlabs":
        return {"xlabs": name}
    if tool != "diffusers":
        return {}
    return {
        "diffusers": f"transformer.{name}",
        "diffusers_0.2": f"transformer.{name}",
        "peft": _PEFT + name,
        "lycoris": f"lycoris_{flat(name)}",
        "onetrainer": f"lora_transformer_{flat(name)}",
    }


def spell_other(module: str, present: set[str]) -> dict[str, list[str]]:
    """The spellings of a module of a text encoder, of our dual CLIP, or of any other network: dialect -> names."""
    # "clip_l.transformer.text_model.x" is encoder clip_l's own text_model.x; other networks have no owner.
    owner, inside, own = module.partition(".transformer.")
    if not inside:
        owner, own = "", module
    kohya, dotted = _prefixes(owner, own, present)
    short = [cut for root in _roots(owner) if (cut := own.removeprefix(root)) != own]
    trained = [*short, own] if short and not owner.startswith("clip_") else [own]
    names = {
        "kohya": [f"{prefix}_{flat(name)}" for name in trained for prefix in kohya],
        "diffusers": [f"{prefix}.{name}" for prefix in dotted for name in [own, *short]] + [module, own],
        "peft": [_PEFT + own] + [f"{prefix}.{_PEFT}{own}" for prefix in dotted] + [_PEFT + module],
        "onetrainer": [f"{prefix}_{flat(name)}" for name in trained for prefix in reversed(kohya)],
        "lycoris": [f"lycoris_{flat(own)}"] if not owner else [],
        "diffusers_0.2": [f"{prefix}.{own}" for prefix in dotted],
    }
    # ComfyUI's own names with its prefix for text encoders, which some trainers save.
    generic = [f"text_encoders.{module}"]
    if inside and not owner.startswith("clip_"):
        generic.append(f"text_encoders.transformer.{own}")
    names["diffusers"] += generic + ([f"{owner}.{own}"] if owner else [])
    for other in _openai_resnet(own):
        names["kohya"] += [f"{prefix}_{flat(other)}" for prefix in kohya]
        names["diffusers"].append(other)
        names["peft"].append(_PEFT + other)
    return names


def _openai_resnet(own: str) -> list[str]:
    """OpenAI's name of a module of our ResNet image encoders, which Hugging Face does not have."""
    if own == "visual_projection":
        return ["visual.attnpool.c_proj"]
    found = re.fullmatch(r"vision_model\.((layer\d|conv\d|attnpool)\b.*)", own)
    return [f"visual.{found[1]}"] if found else []


def _roots(owner: str) -> tuple[str, ...]:
    """What trainers leave out in front of an encoder's own names; transformers 5 drops CLIP's "text_model."."""
    return next((roots for start, roots in ENCODERS.items() if owner.startswith(start)), ("text_model.", "model."))


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
        alone = ["lora_te"] if len(present) == 1 else []
        return [*(f"lora_te{n}" for n in ([3, 2] if two_names else [place])), *alone], [f"text_encoder_{place}"]
    if owner:
        return _other_encoder(owner, present)
    if own.startswith(("text_model.", "text_projection")):
        return ["lora_te"], ["text_encoder"]
    if own.startswith(("vision_model.", "visual_projection")):
        return ["lora_vision"], ["image_encoder"]
    return ["lora"], []


def _other_encoder(owner: str, present: set[str]) -> tuple[list[str], list[str]]:
    """One encoder alone is the first of its pipeline, BERT of Hunyuan-DiT's two. The order of others is not known."""
    if len(present) == 1:
        return ["lora_te", "lora_te1"], ["text_encoder"]
    if "hydit_clip" in present:
        return (["lora_te1"], ["text_encoder"]) if owner == "hydit_clip" else (["lora_te2"], ["text_encoder_2"])
    return [], []
