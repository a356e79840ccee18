"""A network with some of its weights changed, sharing all others with the original."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ...lora.fusing import Change, applied, apply_
from ...lora.low_rank import frobenius
from ...lora.match import key_of, part_of
from ...lora.mmdit import Place

Signature = tuple[bool, list[tuple[Place, tuple[Change, ...]]]]
_merged: weakref.WeakKeyDictionary[nn.Module, dict[str, tuple[Signature, weakref.ref]]] = weakref.WeakKeyDictionary()

_norms: weakref.WeakKeyDictionary[nn.Module, dict[Place, float]] = weakref.WeakKeyDictionary()


def part_norms(owner: nn.Module, state: Mapping[str, torch.Tensor], places: Sequence[Place]) -> dict[Place, float]:
    """The Frobenius norms of weights of a network and of rows of them, kept as long as the network lives."""
    kept = _norms.setdefault(owner, {})
    for place in places:
        if place not in kept:
            kept[place] = frobenius(part_of(state[key_of(place)], place))
    return {place: kept[place] for place in places}


def with_patches(
    network: nn.Module, changes: Mapping[Place, Sequence[Change]], *, match_comfyui: bool = False
) -> nn.Module:
    """A copy whose weights are changed at the places named; what is not named stays the same tensor.

    The sum is made in float32 and rounded once to the weight's own type. A weight that the last copy of this network
    has with the very same changes, and that is still alive, is taken from there: changing one strength of five makes
    only the weights that it touches again.
    """
    by_key: dict[str, list[tuple[Place, tuple[Change, ...]]]] = {}
    for place, several in changes.items():
        by_key.setdefault(key_of(place), []).append((place, tuple(several)))
    tensors = [*network.parameters(), *network.buffers()]
    changed = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})  # new modules, old tensors
    before, after = _merged.get(network, {}), {}
    for key, parts in by_key.items():
        signature = (match_comfyui, parts)
        old, kept = before.get(key, (None, None))
        value = kept() if kept is not None and old == signature else None
        owner_name, _, leaf = key.rpartition(".")
        owner = changed.get_submodule(owner_name)
        if value is None:
            value = _merge(getattr(owner, leaf), parts, match_comfyui)
        after[key] = signature, weakref.ref(value)
        setattr(owner, leaf, value)
    _merged[network] = after
    return changed


def _merge(
    weight: torch.Tensor, parts: Sequence[tuple[Place, tuple[Change, ...]]], match_comfyui: bool
) -> nn.Parameter:
    with torch.no_grad():
        if len(parts) == 1 and isinstance(parts[0][0], str):
            return nn.Parameter(applied(weight, parts[0][1], match_comfyui=match_comfyui), requires_grad=False)
        total = weight.to(torch.float32, copy=True)  # several parts may overlap, and are rounded together
        for place, several in parts:
            apply_(part_of(total, place), several, match_comfyui=match_comfyui)
        return nn.Parameter(total.to(weight.dtype), requires_grad=False)
