"""All changes of one weight at once: thin factors side by side in one multiplication, the other kinds behind them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .adapters import Adapter, LoRA, LoRAError, on_device
from .low_rank import stack

_TILE = 2**21  # numbers of a weight that are fp32 at one time where it is stored otherwise: they stay in the cache


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
    return _apply(weight, weight, changes, strength, match_comfyui)


def applied(weight: Tensor, changes: Sequence[Change], *, match_comfyui: bool = False) -> Tensor:
    """As `apply_`, into a new tensor. [out, in, ...] -> the same shape and type"""
    return _apply(torch.empty_like(weight), weight, changes, 1.0, match_comfyui)


def _apply(into: Tensor, weight: Tensor, changes: Sequence[Change], strength: float, match_comfyui: bool) -> Tensor:
    plain = [change for change in changes if isinstance(change.adapter, LoRA)]
    others = [change for change in changes if not isinstance(change.adapter, LoRA)]
    with torch.no_grad():
        factors = _factors(weight, plain, strength) if plain else None
        if factors and not others and weight.dtype != torch.float32:
            return _add_in_tiles(into, weight, *factors)
        total = into.copy_(weight) if weight.dtype == torch.float32 else weight.float()
        if factors:
            _add_(total, *factors)
        for adapter, own in others:
            moved = on_device(adapter, weight.device)
            total += moved.delta(total, own * strength, match_comfyui=match_comfyui)
        return into if total is into else into.copy_(total)


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


def _add_in_tiles(into: Tensor, weight: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Some rows at a time: of the whole weight there is never a copy in fp32."""
    rows = min(len(weight), max(1, _TILE // down.shape[1]))
    buffer = torch.empty(rows, *weight.shape[1:], dtype=torch.float32, device=weight.device)
    for start in range(0, len(weight), rows):
        some = weight[start : start + rows]
        total = buffer[: len(some)].copy_(some)
        _add_(total, up[start : start + rows], down)
        into[start : start + rows].copy_(total)
    return into
