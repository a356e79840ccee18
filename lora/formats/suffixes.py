"""The grammar of tensor names in LoRA files: a name is a module's path and one suffix. No torch here.

Sources: kohya-ss/sd-scripts, KohakuBlueleaf/LyCORIS, huggingface peft and diffusers, cloneofsimo/lora, XLabs Flux.
"""

import re
from collections.abc import Container
from functools import lru_cache
from typing import NamedTuple

from ..kinds.table import DOWN, KINDS, OWN_WEIGHT, UP, Kind

ALPHA, SCALE, UP_BIAS, DORA, MAGNITUDE = "alpha", "scale", "bias of up", "dora_scale", "magnitude vector"


class Part(NamedTuple):
    """What one tensor is: its module, what it is in it, and the writer's dialect; or the kind that is not read."""

    module: str
    role: str = ""
    dialect: str = ""
    kind: str = ""
    adapter: str = ""


class Grammar(NamedTuple):
    """The suffixes of all kinds. roles: suffix -> (role, dialect); longest: how many dotted pieces the longest has;
    unsaved: PEFT's suffixes with the adapter's name still inside."""

    roles: dict[str, tuple[str, str]]
    longest: int
    unsaved: re.Pattern[str]


_SPELLED = {  # suffix: how kohya spells it, dialect
    "lora_linear_layer.up.weight": ("lora_up.weight", "diffusers"),
    "lora_linear_layer.down.weight": ("lora_down.weight", "diffusers"),
    "lora.up.weight": ("lora_up.weight", "diffusers"),
    "lora.down.weight": ("lora_down.weight", "diffusers"),
    "lora_B.weight": ("lora_up.weight", "diffusers"),
    "lora_A.weight": ("lora_down.weight", "diffusers"),
    "lora_B": ("lora_up.weight", "diffusers"),
    "lora_A": ("lora_down.weight", "diffusers"),
}
_SHARED = {  # what is no kind's own; suffix: role, dialect ("" where several write it)
    "lora_up.bias": (UP_BIAS, "kohya"),
    "lora.up.bias": (UP_BIAS, "diffusers"),
    "lora_B.bias": (UP_BIAS, "diffusers"),
    "lora_magnitude_vector.weight": (MAGNITUDE, ""),
    "lora_magnitude_vector": (MAGNITUDE, ""),
    "dora_scale": (DORA, ""),
    "alpha": (ALPHA, ""),
    "scale": (SCALE, ""),
}
_BY_PEFT = ("lora_A", "lora_B", "lora_magnitude_vector")  # beside the kinds that PEFT writes
_NUMBERED = re.compile(r"((?:unet|text_encoder):\d+):(up|down)$")
_XLABS = re.compile(r"(.+\.processor\.(?:qkv|proj)_lora\d?)\.(up|down)\.weight$")
_PROCESSOR = re.compile(r"(.+)_lora\.(up|down)\.weight$")  # diffusers before 0.20

_NAMES_UNREAD = (  # what is not read; the name of each is the reason that the user sees
    (r"\.lokr_t1$", "LoKr with a core for its small matrix"),
    (r"\.bm\.weight$", "GLoRA with a middle tensor"),
    (r"\.boft_[RSs](\.[^.]+)?$", "BOFT as PEFT stores it"),
    (r"\.lora_A(\.[^.]+)?\.bias$|\.lora_(down|mid)\.bias$|\.lora\.down\.bias$", "LoRA with a bias inside"),
    (r"\.lora_(E|ranknum)(\.[^.]+)?$", "AdaLoRA"),
    (r"\.vera_[\w.]+$", "VeRA"),
    (r"\.lambda_layer(\.[^.]+)?$", "T-LoRA"),
    (r"\.reshape_weight$", "control LoRA that enlarges weights"),
)
_UNREAD = tuple((re.compile(pattern), kind) for pattern, kind in _NAMES_UNREAD)


def grammar() -> Grammar:
    """Of the kinds that there are."""
    return _grammar(tuple(KINDS.values()))


@lru_cache(maxsize=4)
def _grammar(kinds: tuple[Kind, ...]) -> Grammar:
    roles = {suffix: (kind.role(suffix), kind.dialect) for kind in kinds for suffix in kind.parts}
    roles.pop(OWN_WEIGHT, None)
    roles |= {kind.bias: (kind.bias, kind.dialect) for kind in kinds if kind.bias}
    roles |= {suffix: (roles[known][0], dialect) for suffix, (known, dialect) in _SPELLED.items()} | _SHARED
    by_peft = [suffix.partition(".") for kind in kinds if kind.by_peft for suffix in kind.parts]
    heads = "|".join(dict.fromkeys(re.escape(head) for head in (*_BY_PEFT, *(head for head, _, _ in by_peft))))
    tails = "|".join(dict.fromkeys(re.escape(tail) for tail in ("weight", "bias", *(t for _, _, t in by_peft if t))))
    unsaved = re.compile(rf"(.+)\.({heads})\.([^.]+?)(\.(?:{tails}))?$")
    return Grammar(roles, max(suffix.count(".") for suffix in roles) + 1, unsaved)


def role_of_own_weight(roles: Container[str]) -> str | None:
    """What a module's own ".weight" is among parts of these roles; None where it is no part of an adapter."""
    for kind in KINDS.values():
        if OWN_WEIGHT in kind.parts and any(kind.role(other) in roles for other in kind.parts if other != OWN_WEIGHT):
            return kind.role(OWN_WEIGHT)
    return None


def parse(name: str, known: Grammar | None = None) -> Part | None:
    """A tensor's name taken apart; None for a name that no rule knows. `known` is `grammar()`, asked for once.

    "lora_te_x_q_proj.lora_up.weight" -> Part("lora_te_x_q_proj", "up", "kohya")
    """
    known = known or grammar()
    pieces = name.rsplit(".", known.longest)
    for start in range(1, len(pieces)):
        if role := known.roles.get(".".join(pieces[start:])):
            module = ".".join(pieces[:start])
            return Part(module, role[0], _dialect(module, role[1])) if module else None
    for pattern, kind in _UNREAD:
        if (found := pattern.search(name)) and found.start():
            return Part(name[: found.start()], kind=kind)
    for pattern, dialect in ((_NUMBERED, "cloneofsimo"), (_XLABS, "xlabs"), (_PROCESSOR, "diffusers")):
        if found := pattern.match(name):
            return Part(found[1], UP if found[2] == "up" else DOWN, dialect)
    return _unsaved(name, known)


def _unsaved(name: str, known: Grammar) -> Part | None:
    found = known.unsaved.match(name)
    if found is None:
        return None
    if found[2] in ("lora_A", "lora_B") and found[3].isdecimal():
        return Part(found[1], kind="DyLoRA")
    role = known.roles.get(found[2] + (found[4] or ""))
    return role and Part(found[1], role[0], "peft" if role[1] else "", adapter=found[3])


def _dialect(module: str, dialect: str) -> str:
    return "peft" if dialect == "diffusers" and "base_model.model." in module else dialect
