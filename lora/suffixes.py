"""The grammar of tensor names in LoRA files: a name is a module's path and one suffix. No torch here.

Sources: kohya-ss/sd-scripts, KohakuBlueleaf/LyCORIS, huggingface peft and diffusers, cloneofsimo/lora, XLabs Flux.
"""

import re
from typing import NamedTuple

DOWN, UP, MID, ALPHA, SCALE = "down", "up", "mid", "alpha", "scale"
UP_BIAS, DORA, MAGNITUDE = "bias of up", "dora_scale", "magnitude vector"
TABLE_DOWN, TABLE_UP = "down of a table", "up of a table"
OFT_BLOCKS, RESCALE, OFT_ANGLES, OFT_SCALED = "oft_blocks", "rescale", "oft_R", "scaled_oft"
FACTORS, ON_INPUT, IA3_PEFT = "factors", "on_input", "ia3_l"
DIFF, DIFF_BIAS, NORM, NORM_BIAS, SET = "diff", "diff_b", "w_norm", "b_norm", "set_weight"
HADAMARD = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
KRONECKER = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
GENERAL = ("a1", "a2", "b1", "b2")


class Part(NamedTuple):
    """What one tensor is: its module, what it is in it, and the writer's dialect; or the kind that is not read."""

    module: str
    role: str = ""
    dialect: str = ""
    kind: str = ""
    adapter: str = ""


_SUFFIXES = {  # suffix: role, dialect ("" where several write it)
    "lora_up.weight": (UP, "kohya"), "lora_down.weight": (DOWN, "kohya"), "lora_mid.weight": (MID, "kohya"),
    "lora_up.bias": (UP_BIAS, "kohya"),
    "lora_linear_layer.up.weight": (UP, "diffusers"), "lora_linear_layer.down.weight": (DOWN, "diffusers"),
    "lora.up.weight": (UP, "diffusers"), "lora.down.weight": (DOWN, "diffusers"),
    "lora.up.bias": (UP_BIAS, "diffusers"),
    "lora_B.weight": (UP, "diffusers"), "lora_A.weight": (DOWN, "diffusers"), "lora_B.bias": (UP_BIAS, "diffusers"),
    "lora_B": (UP, "diffusers"), "lora_A": (DOWN, "diffusers"),
    "lora_embedding_B": (TABLE_UP, "diffusers"), "lora_embedding_A": (TABLE_DOWN, "diffusers"),
    "lora_magnitude_vector.weight": (MAGNITUDE, ""), "lora_magnitude_vector": (MAGNITUDE, ""),
    "dora_scale": (DORA, ""), "alpha": (ALPHA, ""), "scale": (SCALE, ""),
    **{name: (name, "kohya") for name in (*HADAMARD, *KRONECKER)},
    **{f"{name}.weight": (name, "kohya") for name in GENERAL},
    "oft_blocks": (OFT_BLOCKS, "kohya"), "rescale": (RESCALE, "kohya"),
    "oft_R.weight": (OFT_ANGLES, ""), "oft_R.scaled_oft": (OFT_SCALED, ""),
    "on_input": (ON_INPUT, "kohya"), "ia3_l": (IA3_PEFT, "diffusers"),
    **{name: (name, "") for name in (DIFF, DIFF_BIAS, NORM, NORM_BIAS, SET)},
}
_UNSAVED = re.compile(  # peft, not passed through its own saving: the adapter's name is still inside
    r"(.+)\.(lora_A|lora_B|lora_magnitude_vector|lora_embedding_A|lora_embedding_B|oft_R|ia3_l)\.([^.]+?)"
    r"(\.weight|\.bias|\.scaled_oft)?$")
_NUMBERED = re.compile(r"((?:unet|text_encoder):\d+):(up|down)$")
_XLABS = re.compile(r"(.+\.processor\.(?:qkv|proj)_lora\d?)\.(up|down)\.weight$")
_PROCESSOR = re.compile(r"(.+)_lora\.(up|down)\.weight$")  # diffusers before 0.20

_KINDS = (  # what is not read; the name of each is the reason that the user sees
    (r"\.lokr_t1$", "LoKr with a core for its small matrix"),
    (r"\.bm\.weight$", "GLoRA with a middle tensor"),
    (r"\.boft_[RSs](\.[^.]+)?$", "BOFT as PEFT stores it"),
    (r"\.lora_A(\.[^.]+)?\.bias$|\.lora_(down|mid)\.bias$|\.lora\.down\.bias$", "LoRA with a bias inside"),
    (r"\.lora_(E|ranknum)(\.[^.]+)?$", "AdaLoRA"),
    (r"\.vera_[\w.]+$", "VeRA"),
    (r"\.lambda_layer(\.[^.]+)?$", "T-LoRA"),
    (r"\.reshape_weight$", "control LoRA that enlarges weights"),
)
_KINDS = tuple((re.compile(pattern), kind) for pattern, kind in _KINDS)
_LONGEST = max(suffix.count(".") for suffix in _SUFFIXES) + 1


def parse(name: str) -> Part | None:
    """A tensor's name taken apart; None for a name that no rule knows.

    "lora_te_x_q_proj.lora_up.weight" -> Part("lora_te_x_q_proj", "up", "kohya")
    """
    pieces = name.rsplit(".", _LONGEST)
    for start in range(1, len(pieces)):
        if found := _SUFFIXES.get(".".join(pieces[start:])):
            module = ".".join(pieces[:start])
            return Part(module, found[0], _dialect(module, found[1])) if module else None
    for pattern, kind in _KINDS:
        if (found := pattern.search(name)) and found.start():
            return Part(name[:found.start()], kind=kind)
    for pattern, dialect in ((_NUMBERED, "cloneofsimo"), (_XLABS, "xlabs"), (_PROCESSOR, "diffusers")):
        if found := pattern.match(name):
            return Part(found[1], UP if found[2] == "up" else DOWN, dialect)
    return _unsaved(name)


def _unsaved(name: str) -> Part | None:
    found = _UNSAVED.match(name)
    if found is None:
        return None
    if found[2] in ("lora_A", "lora_B") and found[3].isdecimal():
        return Part(found[1], kind="DyLoRA")
    known = _SUFFIXES.get(found[2] + (found[4] or ""))
    return known and Part(found[1], known[0], "peft" if known[1] else "", adapter=found[3])


def _dialect(module: str, dialect: str) -> str:
    return "peft" if dialect == "diffusers" and "base_model.model." in module else dialect
