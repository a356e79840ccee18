"""Adapters in a model to the modules of a dialect: fused weights are split where it splits them, and joined again.

Exact in both directions for LoRA: rows of a product are rows of `up`, and separate rows are blocks in one `up`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ..kinds.adapters import Adapter, LoRA
from .match import key_of
from .mmdit import Place, Slice
from .names import spellings

_BIAS, _WEIGHT = ".bias", ".weight"
_SPLITTING = ("diffusers", "diffusers_0.2", "peft", "lycoris", "onetrainer")


@dataclass(frozen=True)
class Named:
    """named: the dialect's module -> adapter, for `formats.write`; unnamed: place -> why the dialect cannot say it."""

    named: dict[str, Adapter]
    unnamed: dict[Place, str]


def named(found: Mapping[Place, Adapter], shapes: Mapping[str, Sequence[int]], dialect: str) -> Named:
    """What `match` found, under a dialect's names for this model.

    Raises:
        ValueError: an unknown dialect.
    """
    names = spellings(shapes, dialect)
    parts: dict[str, list[Slice]] = {}
    for place in names:
        if isinstance(place, Slice):
            parts.setdefault(place.key, []).append(place)
    result, unnamed = {}, {}
    pieces: dict[str, dict[Slice, LoRA]] = {}
    for place, adapter in found.items():
        key = key_of(place)
        split = parts.get(key, ()) if dialect in _SPLITTING and isinstance(place, str) else ()
        if split and isinstance(adapter, LoRA) and adapter.mid is None:
            result |= {names[at]: replace(adapter, up=adapter.up.narrow(*at.rows)) for at in split}
        elif place in names:
            result[names[place]] = adapter
        elif isinstance(place, str) and key.endswith(_BIAS) and (name := names.get(key.removesuffix(_BIAS) + _WEIGHT)):
            result[name + _BIAS] = adapter
        elif isinstance(place, Slice) and key in names and isinstance(adapter, LoRA) and adapter.mid is None:
            pieces.setdefault(key, {})[place] = adapter
        else:
            rows = isinstance(place, Slice) and key in names
            unnamed[place] = (
                f"{adapter.kind} on rows of {key} cannot be joined to the whole that {dialect} names"
                if rows
                else f"{dialect} has no name for {key}"
            )
    for key, rows in pieces.items():
        result[names[key]] = joined(rows, shapes[key][0])
    return Named(result, unnamed)


def joined(rows: Mapping[Slice, LoRA], out: int) -> LoRA:
    """One LoRA of the whole weight [out, ...] from LoRAs of some of its rows; rows without one do not change.

    Parts that share `down` and scale (a fused LoRA that was split) keep its rank; others take their ranks together,
    with their scales multiplied in.
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
