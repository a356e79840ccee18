"""A network with some of its weights changed, sharing all others with the original; and how large weights are."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from ..kinds.adapters import Adapter
from ..models.match import key_of, part_of
from ..models.mmdit import Place
from .fusing import Change, applied, apply_
from .measuring import Size, Stored, exact, sampled

# Adapters are held weakly: what was merged is no reason to keep a file's tensors in memory.
Signature = tuple[bool, list[tuple[Place, tuple[tuple[weakref.ref[Adapter], float], ...]]]]
_merged: weakref.WeakKeyDictionary[nn.Module, dict[str, tuple[Signature, weakref.ref]]] = weakref.WeakKeyDictionary()

_sizes: weakref.WeakKeyDictionary[nn.Module, dict[Place, Size | None]] = weakref.WeakKeyDictionary()


def part_sizes(owner: nn.Module, places: Sequence[Place], stored: Callable[[str], Stored | None]) -> dict[Place, Size]:
    """The sizes of weights of a network and of rows of them, from a sample of rows, kept as long as the network lives.

    `stored` gives the weight of a key where a few of its rows can be read cheaply, else None; its places are left out.
    """
    kept = _sizes.setdefault(owner, {})
    wanted, parts = [], []
    for place in places:
        if place not in kept:
            found = kept[place] = stored(key_of(place))
            if found is not None:
                wanted.append(place)
                parts.append(Stored(part_of(found.values, place), found.scale))
    kept |= zip(wanted, sampled(parts))
    return {place: size for place in places if (size := kept[place]) is not None}


def part_norms(
    places: Sequence[Place], whole: Callable[[str], torch.Tensor], on_step: Callable[[int, int], None]
) -> dict[Place, float]:
    """The Frobenius norms of weights, or of rows of them, all of their numbers read; `on_step` may raise to stop it."""
    weights = (part_of(whole(key_of(place)), place) for place in places)
    return dict(zip(places, exact(weights, len(places), on_step)))


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
        signature = (match_comfyui, [(place, _weakly(several)) for place, several in parts])
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


def _weakly(changes: Sequence[Change]) -> tuple[tuple[weakref.ref[Adapter], float], ...]:
    """Equal to another one where the adapters are the same objects, and alive, and the strengths are equal."""
    return tuple((weakref.ref(adapter), strength) for adapter, strength in changes)


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
