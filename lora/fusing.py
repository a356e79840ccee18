"""All changes of one weight at once: thin factors side by side in one multiplication, the other kinds behind them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .adapters import Adapter, LoRA, LoRAError, on_device
from .low_rank import stack

_TILE = 2**20  # numbers of a weight that are fp32 at one time where it is stored otherwise: they stay in the cache


class Change(NamedTuple):
    adapter: Adapter
    strength: float


def apply_(weight: Tensor, changes: Sequence[Change], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
    """Writes the changes into a weight, each times its own strength and the common one.

    The plain LoRAs are added first, as one product in fp32, without a second tensor of the weight's size. The other
    kinds follow in their order, and those that depend on the weight see what came before. Another dtype is rounded
    once, at the end.

    [out, in, ...] -> the same tensor

    Raises:
        LoRAError: an adapter that does not fit.
    """
    plain = [change for change in changes if isinstance(change.adapter, LoRA)]
    others = [change for change in changes if not isinstance(change.adapter, LoRA)]
    with torch.no_grad():
        factors = _factors(weight, plain, strength) if plain else None
        if factors and not others and weight.dtype != torch.float32:
            return _add_in_tiles_(weight, *factors)
        total = weight if weight.dtype == torch.float32 else weight.float()
        if factors:
            _add_(total, *factors)
        for adapter, own in others:
            moved = on_device(adapter, weight.device)
            total += moved.delta(total, own * strength, match_comfyui=match_comfyui)
        return weight if total is weight else weight.copy_(total)


def _factors(weight: Tensor, plain: Sequence[Change], strength: float) -> tuple[Tensor, Tensor]:
    for adapter, _ in plain:
        if reason := adapter.misfit(weight.shape):
            raise LoRAError(reason)
    return stack([adapter for adapter, _ in plain], [own * strength for _, own in plain], weight.device)


def _add_(total: Tensor, up: Tensor, down: Tensor) -> None:
    if total.is_contiguous():
        total.view(len(total), -1).addmm_(up, down)
    else:
        total += (up @ down).view(total.shape)


def _add_in_tiles_(weight: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Some rows at a time: of the whole weight there is never a copy in fp32."""
    rows = max(1, _TILE // down.shape[1])
    for start in range(0, len(weight), rows):
        some = weight[start : start + rows]
        total = some.to(torch.float32, memory_format=torch.contiguous_format)
        _add_(total, up[start : start + rows], down)
        some.copy_(total)
    return weight
