"""LoRAs in a checkpoint for good: which tensors of its file change, and each of them with its changes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...kinds.adapters import LoRAError, on_device
from ...models.match import key_of
from ...models.places import Place, Slice
from ...weights.fusing import Change, apply_
from ..checkpoint import Checkpoint, Spot
from ..gathering import Gathered, strengths_of


@dataclass(frozen=True)
class Baking:
    """What a checkpoint becomes: tensor -> its changes, each with the spot of the tensor that it is on."""

    changes: dict[str, tuple[tuple[Spot, Change], ...]]


def plan_baking(gathered: Gathered, checkpoint: Checkpoint) -> Baking:
    """Plan which tensors of a file the LoRAs change.

    Raises:
        LoRAError: blocks that select nothing, or every strength is 0.
    """
    strengths = strengths_of(gathered)
    found: dict[str, list[tuple[Spot, Change]]] = {}
    for place, parts in gathered.layers.items():
        for part in parts:
            strength = strengths[part.source][place]
            if not strength:
                continue
            spot = checkpoint.spots[key_of(place)]
            own = spot._replace(rows=_inside(spot.rows, _rows_of(place), part.rows))
            found.setdefault(spot.name, []).append((own, Change(part.adapter, strength)))
    if not found:
        raise LoRAError("every strength is 0: the checkpoint would stay as it is")
    return Baking({name: tuple(several) for name, several in found.items()})


def _rows_of(place: Place) -> tuple[int, int] | None:
    return place.rows[1:] if isinstance(place, Slice) else None


def _inside(*ranges: tuple[int, int] | None) -> tuple[int, int] | None:
    """Rows of rows of rows, in the outermost's own numbers."""
    found: tuple[int, int] | None = None
    for own in ranges:
        if own is not None:
            found = own if found is None else (found[0] + own[0], own[1])
    return found


def baked(baking: Baking, name: str, weight: Tensor) -> Tensor:
    """A tensor of the checkpoint with its changes: the sum is made in fp32 and rounded once to the tensor's own type.

    Raises:
        LoRAError: a change does not fit, widens the tensor, or makes a number that its type cannot hold.
    """
    several = baking.changes.get(name, ())
    if not several:
        return weight
    total = weight.to(torch.float32, copy=True)
    by_spot: dict[Spot, list[Change]] = {}
    for spot, change in several:
        by_spot.setdefault(spot, []).append(Change(on_device(change.adapter, weight.device), change.strength))
    for spot, changes in by_spot.items():
        apply_(spot.of(total), changes)
    found = total.to(weight.dtype)
    if not found.isfinite().all():
        kind = str(weight.dtype).removeprefix("torch.")
        raise LoRAError(f"{name} would hold numbers that {kind} cannot: take smaller strengths")
    return found
