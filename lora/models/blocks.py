"""Strengths by block: a text such as "attn2: 0.5, IN07-IN08: 0, double.0-7: 0.3" gives each place its strength.

The presets of positional numbers are those of hako-mikan's sd-webui-lora-block-weight. No torch here.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from ..kinds.adapters import LoRAError
from .places import Place

_UNET = "diffusion_model."
_STACKS = {"double_blocks": "double", "single_blocks": "single", "joint_blocks": "joint"}
_TEXT = ("clip_l", "clip_g", "clip_h", "t5xxl")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$", re.IGNORECASE)
_RANGE = re.compile(r"([A-Za-z][\w.]*?[._]?)(\d+)(?:-(?:\1)?(\d+))?$")
_NUMBERED = re.compile(r"(IN|OUT|.+\.)(\d+)$", re.IGNORECASE)  # a block's name: its stack and its number
_STACK = re.compile(r"((?:[^.]+\.)*?[^.]*(?:blocks?|layers?|refiner|encoders|stages?))\.(\d+)\.")
_ALIASES = {"m00": "mid", "all": "*", "unet": "model"}
_PRESETS = {  # numbers: the blocks they are for, after BASE
    12: ("IN04 IN05 IN07 IN08 MID", range(0, 6)),
    17: ("IN01 IN02 IN04 IN05 IN07 IN08 MID", range(3, 12)),
    20: (" ".join(f"IN{n:02}" for n in range(9)) + " MID", range(0, 9)),
    26: (" ".join(f"IN{n:02}" for n in range(12)) + " MID", range(0, 12)),
}
_MOST = {12: 9, 17: 12, 20: 9, 26: 12}  # how many output blocks the model has: 9 is SDXL, 12 is SD 1 and SD 2


@dataclass(frozen=True)
class BlockStrengths:
    """The strength of every place, and for each selector the number of places that it selects."""

    strengths: dict[Place, float]
    hits: dict[str, int]


def block_of(place: Place) -> str:
    """The block of a place: IN00..IN11, MID, OUT00..OUT11, double.N, single.N, joint.N, an encoder's name, or "other".

    Any other numbered stack of a model has its own name: "diffusion_model.transformer_blocks.7.attn.to_q.weight" ->
    "transformer_blocks.7", and "diffusion_model.input_blocks.7.1.proj_in.weight" -> "IN07".
    """
    key = place if isinstance(place, str) else place[0]
    if not key.startswith(_UNET):
        owner = key.partition(".")[0]
        if owner in _TEXT or key[len(owner) :].startswith(".transformer."):
            return owner
        return {
            "text_model": "text",
            "text_projection": "text",
            "vision_model": "vision",
            "visual_projection": "vision",
        }.get(owner, "other")
    parts = key[len(_UNET) :].split(".")
    number = parts[1] if len(parts) > 1 and parts[1].isdecimal() else ""
    if parts[0] == "middle_block":
        return "MID"
    if parts[0] in ("input_blocks", "output_blocks") and number:
        return f"{'IN' if parts[0][0] == 'i' else 'OUT'}{int(number):02}"
    if parts[0] in _STACKS and number:
        return f"{_STACKS[parts[0]]}.{int(number)}"
    stack = _STACK.match(key[len(_UNET) :])
    return f"{stack[1]}.{int(stack[2])}" if stack else "other"


def count_by_block(places: Iterable[Place]) -> dict[str, int]:
    """The number of places in each block, in the model's order of blocks."""
    counts: dict[str, int] = {}
    for block in map(block_of, places):
        counts[block] = counts.get(block, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: _order(item[0])))


def _order(block: str) -> tuple[int, str, int]:
    """A sort key for blocks: text encoders first, then the order of the data: IN, MID, OUT, or double, single."""
    found = _NUMBERED.match(block)
    start = found[1] if found else block
    ranks = ["IN", "double.", "joint.", "MID", "OUT", "single."]
    rank = ranks.index(start) if start in ranks else len(ranks) if block == "other" else -1
    return rank, start, int(found[2]) if found else 0


def select(text: str, places: Iterable[Place]) -> BlockStrengths:
    """Select gives each place the strength of the last selector that reaches it, and 1 where none does.

    A selector is a block ("MID", "OUT03"), a range ("IN07-IN08", "double.0-7", "layers.4-9", with the name of any stack
    that the model has), "text", "vision", "model", "other", "*", or a part of the keys' names between dots ("attn2",
    "attn1.to_k", "img_mlp"); then ":" and a number, 1 where it is missing. A later selector overrules an earlier one.
    A text of 12, 17, 20 or 26 numbers alone is a preset: the first is for the text encoders and everything outside the
    blocks, the others for blocks in order, and blocks that are not in its list get 0.

    Raises:
        LoRAError: a selector reaches nothing, a strength is not a number, or a preset has another length or is for
            another model.
    """
    places = list(places)
    items = [item.strip() for item in text.replace("\n", ",").replace(";", ",").split(",") if item.strip()]
    strengths: dict[Place, float] = dict.fromkeys(places, 1.0)
    if len(items) > 1 and all(_NUMBER.match(item) for item in items):
        return _preset([_number(item, item) for item in items], places)
    hits = {}
    blocks = {place: block_of(place) for place in places}
    for item in items:
        name, colon, value = (part.strip() for part in item.partition(":"))
        strength = _number(value, item) if colon else 1.0
        reached = [place for place in places if _is_in(name, blocks[place])]
        reached = reached or [place for place in places if _reaches(name, place, blocks[place])]
        if not reached:
            raise LoRAError(_nothing(name, places, blocks))
        hits[item] = len(reached)
        strengths.update(dict.fromkeys(reached, strength))
    return BlockStrengths(strengths, hits)


def _number(text: str, item: str) -> float:
    if not _NUMBER.match(text) or not math.isfinite(float(text)):
        raise LoRAError(f"the strength in {item[:80]!r} is not a number: write a selector, a colon and a number")
    return float(text)


def _is_in(name: str, block: str) -> bool:
    """Whether a block is the one of a selector, or in its range: "blocks.0-3" or "double_blocks.0" for "double.0"."""
    asked, at = _RANGE.match(name.lower()), _NUMBERED.match(block.lower())
    if not asked or not at:
        return False
    stack = asked[1].removesuffix(".")
    return _STACKS.get(stack, stack) == at[1].removesuffix(".") and (
        int(asked[2]) <= int(at[2]) <= int(asked[3] or asked[2])
    )


def _reaches(name: str, place: Place, block: str) -> bool:
    low = _ALIASES.get(name.lower(), name.lower())
    key = place if isinstance(place, str) else place[0]
    if low == "*" or low == block.lower():
        return True
    if low == "text":
        return block not in ("other", "vision") and not key.startswith(_UNET)
    if low == "base":
        return _is_base(block)
    if low == "model":
        return key.startswith(_UNET)
    return f".{name}." in f".{key}."


def _is_base(block: str) -> bool:
    return not _NUMBERED.match(block) and block != "MID"


def _preset(values: list[float], places: list[Place]) -> BlockStrengths:
    if len(values) not in _PRESETS:
        raise LoRAError(
            f"{len(values)} numbers are no preset: there are presets of {', '.join(map(str, _PRESETS))} "
            'numbers; or name the blocks, as in "IN07-IN08: 0, attn2: 0.5"'
        )
    blocks = {place: block_of(place) for place in places}
    outputs = 1 + max((int(block[3:]) for block in blocks.values() if block.startswith("OUT")), default=-1)
    if not outputs and all(_is_base(block) for block in blocks.values()) and "other" not in blocks.values():
        outputs = _MOST[len(values)]  # text encoders alone: only the first number counts
    if outputs != _MOST[len(values)]:
        models = {9: "SDXL", 12: "SD 1 and SD 2"}
        raise LoRAError(
            f"a preset of {len(values)} numbers is for {models[_MOST[len(values)]]}, this model "
            + (f"has {outputs} output blocks" if outputs else "has no such blocks")
            + f": there is {_existing(places, blocks)}"
        )
    inputs, out = _PRESETS[len(values)]
    names = ["BASE", *inputs.split(), *(f"OUT{n:02}" for n in out)]
    by_name = dict(zip(names, values))
    strengths = {
        place: by_name["BASE"] if _is_base(block) else by_name.get(block, 0.0) for place, block in blocks.items()
    }
    hits = {
        name: sum(block == name or (name == "BASE" and _is_base(block)) for block in blocks.values()) for name in names
    }
    return BlockStrengths(strengths, hits)


def _nothing(name: str, places: list[Place], blocks: dict[Place, str]) -> str:
    parts = {part for place in places for part in (place if isinstance(place, str) else place[0]).split(".")}
    known = sorted({*blocks.values(), *(part for part in parts if not part.isdecimal())})
    near = get_close_matches(name[:80], known, n=1)
    return (
        f"{name[:80]!r} selects nothing in this model{f' (did you mean {near[0]}?)' if near else ''}: "
        f"there is {_existing(places, blocks)}"
    )


def _existing(places: list[Place], blocks: dict[Place, str]) -> str:
    """The blocks of a model as a short list: "IN01-IN08, MID, OUT03-OUT11, clip_l"."""
    numbered: dict[str, list[int]] = {}
    others = set()
    for block in blocks.values():
        if found := _NUMBERED.match(block):
            numbered.setdefault(found[1], []).append(int(found[2]))
        else:
            others.add(block)
    width = {"IN": 2, "OUT": 2}
    named = [f"{start}{min(n):0{width.get(start, 1)}}-{max(n):0{width.get(start, 1)}}" for start, n in numbered.items()]
    return ", ".join([*sorted(named), *sorted(others)]) or "nothing to select"
