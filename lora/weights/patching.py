"""Patching: a copy of a network with some weights changed, which shares all others; and the sizes of its weights."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from ..kinds.adapters import Adapter
from ..models.match import key_of, part_of
from ..models.places import Place
from .fusing import Change, apply, apply_
from .measuring import Size, Stored, exact_norms, sample_sizes

# Adapters are held weakly: a merged weight must not keep the tensors of its LoRA file in memory.
Signature = tuple[bool, list[tuple[Place, tuple[tuple[weakref.ref[Adapter], float], ...]]]]
_merged: weakref.WeakKeyDictionary[nn.Module, dict[str, tuple[Signature, weakref.ref]]] = weakref.WeakKeyDictionary()

_sizes: weakref.WeakKeyDictionary[nn.Module, dict[Place, Size | None]] = weakref.WeakKeyDictionary()


def part_sizes(
    owner: nn.Module, places: Sequence[Place], stored: Callable[[Place], Stored | None]
) -> dict[Place, Size]:
    """The estimated sizes of a network's weights, or of rows of them; they are kept as long as the network lives.

    `stored` returns the weight at a place where single rows can be read cheaply, else None: the place is left out.
    """
    kept = _sizes.setdefault(owner, {})
    wanted, parts = [], []
    for place in places:
        if place not in kept:
            kept[place] = None
            if (found := stored(place)) is not None:
                wanted.append(place)
                parts.append(found)
    kept |= zip(wanted, sample_sizes(parts))
    return {place: size for place in places if (size := kept[place]) is not None}


def part_norms(
    places: Sequence[Place], whole: Callable[[str], torch.Tensor], on_step: Callable[[int, int], None]
) -> dict[Place, float]:
    """The exact Frobenius norms of weights, or of rows of them; `on_step(done, total)` may raise to stop."""
    weights = (part_of(whole(key_of(place)), place) for place in places)
    return dict(zip(places, exact_norms(weights, len(places), on_step)))


def with_patches(
    network: nn.Module, changes: Mapping[Place, Sequence[Change]], *, match_comfyui: bool = False
) -> nn.Module:
    """A copy of a network whose weights are changed at the given places; all other tensors are shared.

    The sum is made in float32 and rounded once to the weight's own type. A weight that the last copy of this network
    has with equal changes is reused while that copy lives: a new strength for one LoRA of five makes only the weights
    again that this LoRA changes.

    Args:
        network: any module; it is not changed.
        changes: place -> the changes there, as `match` and `Change` give them.
        match_comfyui: makes the change that ComfyUI's own loader makes, where that differs from the trainer's.

    Returns:
        A new module of the same class.

    Raises:
        LoRAError: an adapter does not fit its weight.
        AttributeError: the network has no weight of that name.

    >>> from ..kinds.adapters import LoRA
    >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    >>> ones = LoRA(torch.ones(2, 1), torch.ones(1, 2), 1.0)
    >>> changed = with_patches(network, {"0.weight": [Change(ones, 0.5)]})
    >>> torch.equal(changed[0].weight, network[0].weight + 0.5), changed[1].weight is network[1].weight
    (True, True)
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
    """The changes with weak references: equal to another such tuple while the adapters are the same living objects."""
    return tuple((weakref.ref(adapter), strength) for adapter, strength in changes)


def _merge(
    weight: torch.Tensor, parts: Sequence[tuple[Place, tuple[Change, ...]]], match_comfyui: bool
) -> nn.Parameter:
    """The weight with the changes of its parts, as a new parameter."""
    with torch.no_grad():
        if len(parts) == 1 and isinstance(parts[0][0], str):
            return nn.Parameter(apply(weight, parts[0][1], match_comfyui=match_comfyui), requires_grad=False)
        total = weight.to(torch.float32, copy=True)  # parts may overlap: they are added in fp32 and rounded together
        for place, several in parts:
            apply_(part_of(total, place), several, match_comfyui=match_comfyui)
        return nn.Parameter(total.to(weight.dtype), requires_grad=False)
