"""The grammar of tensor names in LoRA files: a name is a module's path and one suffix. No torch here.

Sources: kohya-ss/sd-scripts, KohakuBlueleaf/LyCORIS, huggingface peft and diffusers, cloneofsimo/lora, XLabs Flux.
"""

import re
from typing import NamedTuple

DOWN, UP, MID, ALPHA, SCALE = "down", "up", "mid", "alpha", "scale"


class Part(NamedTuple):
    """What one tensor is: its module, what it is in it, and the writer's dialect; or the kind that is not read."""

    module: str
    role: str = ""
    dialect: str = ""
    kind: str = ""
    adapter: str = ""


_FACTORS = {  # suffix: role, dialect; longest first among those that end alike
    ".lora_up.weight": (UP, "kohya"), ".lora_down.weight": (DOWN, "kohya"), ".lora_mid.weight": (MID, "kohya"),
    ".lora_linear_layer.up.weight": (UP, "diffusers"), ".lora_linear_layer.down.weight": (DOWN, "diffusers"),
    "_lora.up.weight": (UP, "diffusers"), "_lora.down.weight": (DOWN, "diffusers"),
    ".lora.up.weight": (UP, "diffusers"), ".lora.down.weight": (DOWN, "diffusers"),
    ".lora_B.weight": (UP, "diffusers"), ".lora_A.weight": (DOWN, "diffusers"),
    ".lora_B": (UP, "diffusers"), ".lora_A": (DOWN, "diffusers"),
    ".alpha": (ALPHA, ""), ".scale": (SCALE, ""),
}
_NAMED_ADAPTER = re.compile(r"(.+)\.lora_([AB])\.([^.]+)\.weight$")  # peft, not passed through its own saving
_NUMBERED = re.compile(r"((?:unet|text_encoder):\d+):(up|down)$")

_KINDS = (  # what a later reader may read; the name of each is the reason that the user sees
    (r"\.hada_[wt]\d(_[ab])?$", "LoHa"),
    (r"\.lokr_[wt]\d(_[ab])?$", "LoKr"),
    (r"\.[ab][12]\.weight$", "GLoRA"),
    (r"\.(oft_blocks|oft_R(\.[^.]+)*\.weight|oft_R\.scaled_oft)$", "OFT"),
    (r"\.rescale$", "OFT (its rescale)"),
    (r"\.boft_[RSs](\.[^.]+)?$", "BOFT"),
    (r"\.(dora_scale|lora_magnitude_vector(\.[^.]+){0,2})$", "DoRA"),
    (r"\.lora_B(\.[^.]+)?\.bias$|\.lora_(up|down|mid)\.bias$|\.lora\.(up|down)\.bias$", "LoRA with a bias"),
    (r"\.lora_embedding_[AB](\.[^.]+)?$", "LoRA of an embedding table"),
    (r"\.lora_(E|ranknum)(\.[^.]+)?$", "AdaLoRA"),
    (r"\.vera_[\w.]+$", "VeRA"),
    (r"\.lambda_layer(\.[^.]+)?$", "T-LoRA"),
    (r"\.(on_input|ia3_l(\.[^.]+)?)$", "(IA)^3"),
    (r"\.diff(_b)?$", "full difference"),
    (r"\.[wb]_norm$", "norm difference"),
    (r"\.(set_weight|reshape_weight)$", "control LoRA that replaces or enlarges weights"),
    (r"_lora\d\.(up|down)\.weight$", "XLabs Flux LoRA"),
)
_KINDS = tuple((re.compile(pattern), kind) for pattern, kind in _KINDS)


def parse(name: str) -> Part | None:
    """A tensor's name taken apart; None for a name that no rule knows.

    "lora_te_x_q_proj.lora_up.weight" -> Part("lora_te_x_q_proj", "up", "kohya")
    """
    if found := _NUMBERED.match(name):
        return Part(found[1], UP if found[2] == "up" else DOWN, "cloneofsimo")
    if found := _NAMED_ADAPTER.match(name):
        if found[3].isdecimal():
            return Part(found[1], kind="DyLoRA")
        return Part(found[1], UP if found[2] == "B" else DOWN, "peft", adapter=found[3])
    for pattern, kind in _KINDS:
        if (found := pattern.search(name)) and found.start():
            return Part(name[:found.start()], kind=kind)
    for suffix, (role, dialect) in _FACTORS.items():
        module = name.removesuffix(suffix)
        if module != name and module:
            if dialect == "diffusers" and "base_model.model." in module:
                dialect = "peft"
            return Part(module, role, dialect)
    return None
