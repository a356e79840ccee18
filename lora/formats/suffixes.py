"""The grammar of tensor names in LoRA files: a name is a module's path and one suffix. No torch here.

Sources: kohya-ss/sd-scripts, KohakuBlueleaf/LyCORIS, huggingface peft and diffusers, cloneofsimo/lora, XLabs Flux.
"""

import re
from collections.abc import Container
from functools import lru_cache
from typing import NamedTuple

from ..kinds.table import DOWN, KINDS, OWN_WEIGHT, UP, Kind
from .dialects import spellings_of_lora

ALPHA, SCALE, UP_BIAS, DORA, MAGNITUDE = "alpha", "scale", "bias of up", "dora_scale", "magnitude vector"
RESHAPE = "reshape_weight"


class ParsedName(NamedTuple):
    """A tensor's name taken apart: module, role in the module and the writer's dialect; or the `kind` that is unread.

    adapter: the name of PEFT's adapter, where it was left inside the suffix.
    """

    module: str
    role: str = ""
    dialect: str = ""
    kind: str = ""
    adapter: str = ""


class Grammar(NamedTuple):
    """The suffixes of all kinds.

    roles: suffix -> (role, dialect). longest: the number of dotted pieces of the longest suffix. unsaved: the pattern
    of PEFT's suffixes with the adapter's name still inside ("lora_A.default.weight").
    """

    roles: dict[str, tuple[str, str]]
    longest: int
    unsaved: re.Pattern[str]


_SHARED = {  # parts that several kinds have; suffix: role, dialect ("" where several tools write it)
    "lora_up.bias": (UP_BIAS, "kohya"),
    "lora.up.bias": (UP_BIAS, "diffusers"),
    "lora_B.bias": (UP_BIAS, "diffusers"),
    "lora_magnitude_vector.weight": (MAGNITUDE, ""),
    "lora_magnitude_vector": (MAGNITUDE, ""),
    "dora_scale": (DORA, ""),
    "alpha": (ALPHA, ""),
    "scale": (SCALE, ""),
    "reshape_weight": (RESHAPE, ""),
}
_BY_PEFT = ("lora_A", "lora_B", "lora_magnitude_vector")  # beside the kinds that PEFT writes
_NUMBERED = re.compile(r"((?:unet|text_encoder):\d+):(up|down)$")
_XLABS = re.compile(r"(.+\.processor\.(?:qkv|proj)_lora\d?)\.(up|down)\.weight$")
_PROCESSOR = re.compile(r"(.+)_lora\.(up|down)\.weight$")  # diffusers before 0.20

_NAMES_UNREAD = (  # the kinds without a row in KINDS; the name of each is the reason that the user sees
    (r"\.lokr_t1$", "LoKr with a core for its small matrix"),
    (r"\.bm\.weight$", "GLoRA with a middle tensor"),
    (r"\.boft_[RSs](\.[^.]+)?$", "BOFT as PEFT stores it"),
    (r"\.lora_A(\.[^.]+)?\.bias$|\.lora_(down|mid)\.bias$|\.lora\.down\.bias$", "LoRA with a bias inside"),
    (r"\.lora_(E|ranknum)(\.[^.]+)?$", "AdaLoRA"),
    (r"\.vera_[\w.]+$", "VeRA"),
    (r"\.lambda_layer(\.[^.]+)?$", "T-LoRA"),
)
_UNREAD = tuple((re.compile(pattern), kind) for pattern, kind in _NAMES_UNREAD)


def grammar() -> Grammar:
    """The suffixes of the rows in KINDS, made again when a row is added."""
    return _grammar(tuple(KINDS.values()))


@lru_cache(maxsize=4)
def _grammar(kinds: tuple[Kind, ...]) -> Grammar:
    roles = {suffix: (kind.role(suffix), kind.dialect) for kind in kinds for suffix in kind.parts}
    roles.pop(OWN_WEIGHT, None)
    roles |= {kind.bias: (kind.bias, kind.dialect) for kind in kinds if kind.bias}
    roles |= {suffix: (UP if is_up else DOWN, dialect) for suffix, (is_up, dialect) in spellings_of_lora().items()}
    roles |= _SHARED
    by_peft = [suffix.partition(".") for kind in kinds if kind.by_peft for suffix in kind.parts]
    heads = "|".join(dict.fromkeys(re.escape(head) for head in (*_BY_PEFT, *(head for head, _, _ in by_peft))))
    tails = "|".join(dict.fromkeys(re.escape(tail) for tail in ("weight", "bias", *(t for _, _, t in by_peft if t))))
    unsaved = re.compile(rf"(.+)\.({heads})\.([^.]+?)(\.(?:{tails}))?$")
    return Grammar(roles, max(suffix.count(".") for suffix in roles) + 1, unsaved)


def role_of_own_weight(roles: Container[str]) -> str | None:
    """The role of a module's own ".weight" beside parts of these roles; None where it is the model's own weight."""
    for kind in KINDS.values():
        if OWN_WEIGHT in kind.parts and any(kind.role(other) in roles for other in kind.parts if other != OWN_WEIGHT):
            return kind.role(OWN_WEIGHT)
    return None


def parse(name: str, known: Grammar | None = None) -> ParsedName | None:
    """Parse a tensor's name; None for a name that no rule knows. `known` is `grammar()`, made once for many names.

    "lora_te_x_q_proj.lora_up.weight" -> ParsedName("lora_te_x_q_proj", "up", "kohya")
    """
    known = known or grammar()
    # The longest suffix that is in the table wins: "lora.up.weight" is read before "weight" could be.
    pieces = name.rsplit(".", known.longest)
    for start in range(1, len(pieces)):
        if role := known.roles.get(".".join(pieces[start:])):
            module = ".".join(pieces[:start])
            return ParsedName(module, role[0], _dialect(module, role[1])) if module else None
    # A suffix with PEFT's adapter name inside is in no table; the rows of the kinds come before the kinds unread.
    if part := _parse_unsaved(name, known):
        return part
    for pattern, kind in _UNREAD:
        if (found := pattern.search(name)) and found.start():
            return ParsedName(name[: found.start()], kind=kind)
    # Three tools separate the module from the factor in ways that no suffix table can hold.
    for pattern, dialect in ((_NUMBERED, "cloneofsimo"), (_XLABS, "xlabs"), (_PROCESSOR, "diffusers")):
        if found := pattern.match(name):
            return ParsedName(found[1], UP if found[2] == "up" else DOWN, dialect)
    return None


def _parse_unsaved(name: str, known: Grammar) -> ParsedName | None:
    """A name that PEFT's `named_parameters` gives, with the adapter's own name inside the suffix; None for others."""
    found = known.unsaved.match(name)
    if found is None or found[3] in ("weight", "bias"):  # those end a suffix: "lora_A.bias" has no adapter's name
        return None
    if found[2] in ("lora_A", "lora_B") and found[3].isdecimal():
        return ParsedName(found[1], kind="DyLoRA")
    role = known.roles.get(found[2] + (found[4] or ""))
    return ParsedName(found[1], role[0], "peft" if role[1] else "", adapter=found[3]) if role else None


def _dialect(module: str, dialect: str) -> str:
    return "peft" if dialect == "diffusers" and "base_model.model." in module else dialect
