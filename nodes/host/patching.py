"""A network with some of its weights changed, sharing all others with the original."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn

from ...lora.adapters import LoRA


def with_patches(network: nn.Module, found: Mapping[str, LoRA], strength: float) -> nn.Module:
    """A copy whose weight W is W + strength * delta for each name in `found`; what is not named stays the same tensor.

    The sum is made in float32 and rounded once to the weight's own type.
    """
    tensors = [*network.parameters(), *network.buffers()]
    changed = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})  # new modules, old tensors
    for name, lora in found.items():
        owner_name, _, leaf = name.rpartition(".")
        owner = changed.get_submodule(owner_name)
        weight = getattr(owner, leaf)
        with torch.no_grad():
            delta = lora.delta(tuple(weight.shape), strength)
            value = (weight.float() + delta.to(weight.device)).to(weight.dtype)
        setattr(owner, leaf, nn.Parameter(value, requires_grad=False))
    return changed
