"""Conversion: adapters in a model become modules of a dialect, which may split fused weights that the model joins.

LoRA is split and joined exactly: rows of the product are rows of `up`, and separate rows are blocks of one `up`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ..formats.dialects import DIALECTS
from ..kinds.adapters import Adapter, LoRA
from .match import key_of
from .names import spellings, target_map
from .places import Place, Slice
from .rows import exchanged
from .spellings import spell_part

_BIAS, _WEIGHT = ".bias", ".weight"


@dataclass(frozen=True)
class Renaming:
    """named: the dialect's module -> adapter, for `write`; unnamed: place -> why the dialect has no name for it."""

    named: dict[str, Adapter]
    unnamed: dict[Place, str]


def rename(found: Mapping[Place, Adapter], shapes: Mapping[str, Sequence[int]], dialect: str) -> Renaming:
    """Rename gives the adapters that `match` placed a dialect's names for this model.

    Raises:
        ValueError: the dialect is unknown.
    """
    return Renamer(shapes, dialect).rename(found)


class Renamer:
    """The names of one model in one dialect, for adapters that come one after another."""

    def __init__(self, shapes: Mapping[str, Sequence[int]], dialect: str) -> None:
        self._shapes = shapes
        self._names = spellings(shapes, dialect)
        self._swapped = swapped_spellings(shapes, dialect)
        self._parts: dict[str, list[Slice]] = {}  # of the weights that the dialect splits
        for place in self._names:
            if isinstance(place, Slice) and DIALECTS[dialect].splits:
                self._parts.setdefault(place.key, []).append(place)
        self._dialect = dialect

    def rename(self, found: Mapping[Place, Adapter]) -> Renaming:
        """The dialect's names for these adapters; rows of one weight that it names whole have to come together."""
        names, shapes, dialect = self._names, self._shapes, self._dialect
        result: dict[str, Adapter] = {}
        unnamed: dict[Place, str] = {}
        pieces: dict[str, dict[Slice, LoRA]] = {}
        for place, adapter in found.items():
            key = key_of(place)
            split = self._parts.get(key, ()) if isinstance(place, str) else ()
            if split and isinstance(adapter, LoRA) and adapter.mid is None:
                result |= {names[at]: replace(adapter, up=adapter.up.narrow(*at.rows)) for at in split}
            elif (name := _swapped_name(place, self._swapped)) and (turned := exchanged(adapter)):
                result[name] = turned
            elif place in names:
                result[names[place]] = adapter
            elif isinstance(place, str) and (name := names.get(_weight_beside(key))):
                result[name + _BIAS] = adapter
            elif isinstance(place, Slice) and key in names and isinstance(adapter, LoRA) and adapter.mid is None:
                pieces.setdefault(key, {})[place] = adapter
            else:
                of_rows = isinstance(place, Slice) and key in names
                unnamed[place] = (
                    f"{adapter.kind} on rows of {key} cannot be joined to the whole that {dialect} names"
                    if of_rows
                    else f"{dialect} has no name for {key}"
                )
        for key, own in pieces.items():
            result[names[key]] = join_rows(own, shapes[key][0])
        return Renaming(result, unnamed)


def _weight_beside(key: str) -> str:
    """The key of the weight whose bias this is; "" for any other key."""
    return key.removesuffix(_BIAS) + _WEIGHT if key.endswith(_BIAS) else ""


def swapped_spellings(shapes: Mapping[str, Sequence[int]], dialect: str) -> dict[str, str]:
    """The keys whose name in a dialect means their halves of rows in the other order -> that name.

    An adapter is written under it with its halves exchanged (`rows.exchanged`).
    """
    names = target_map(shapes)
    found: dict[str, str] = {}
    for name, tool, targets, first in names.parts:
        written = spell_part(name, tool).get(dialect) if first and targets[0].swapped else None
        if written and names.find(written).targets == targets:
            found[key_of(targets[0].place)] = written
    return found


def _swapped_name(place: Place, swapped: Mapping[str, str]) -> str | None:
    """The dialect's name of a weight, or of the bias beside it, whose halves it has in the other order."""
    if not isinstance(place, str):
        return None
    if place.endswith(_BIAS):
        name = swapped.get(place.removesuffix(_BIAS) + _WEIGHT)
        return name and name + _BIAS
    return swapped.get(place)


def join_rows(rows: Mapping[Slice, LoRA], out: int) -> LoRA:
    """Join LoRAs of some rows of a weight [out, ...] into one LoRA of the whole weight; the other rows do not change.

    LoRAs that share `down` and scale (a fused LoRA that was split) keep their rank. Of others the ranks add up, and the
    scales are multiplied in.
    """
    first = next(iter(rows.values()))
    shared = all(lora.alpha == first.alpha and torch.equal(lora.down, first.down) for lora in rows.values())
    rank = first.rank if shared else sum(lora.rank for lora in rows.values())
    up = torch.zeros(out, rank, dtype=first.up.dtype if shared else torch.float32)
    start = 0
    for place, lora in rows.items():
        if shared:
            up.narrow(*place.rows).copy_(lora.up.flatten(1))
        else:
            up.narrow(*place.rows)[:, start : start + lora.rank] = lora.up.float().flatten(1) * lora.scale
            start += lora.rank
    if shared:
        return replace(first, up=up)
    return LoRA(up, torch.cat([lora.down.float() for lora in rows.values()]), float(rank))
