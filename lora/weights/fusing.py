"""All changes of one weight at once: thin factors side by side in one multiplication, the other kinds behind them.

The product is made in fp32 and rounded once, whatever the weight is. On a CUDA card that is fp32 as long as
`torch.backends.cuda.matmul.allow_tf32` is off, which is torch's default and ComfyUI's: who turns TF32 on turns it on
for ComfyUI's own patches too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..kinds.adapters import Adapter, LoRA, LoRAError, on_device, sent
from .low_rank import joined

_TILE = 2**21  # numbers of a weight that are fp32 at one time where it is stored otherwise: a CPU's cache holds them
_CARD_TILE = 2**26  # 256 MB of a card's memory: Flux' largest weight, of 66 million numbers, in one pass
_ADDS_FP32 = (torch.float16, torch.bfloat16)  # a card adds fp32 to them and rounds once, in one kernel


class Change(NamedTuple):
    adapter: Adapter
    strength: float


class Fused(NamedTuple):
    """All changes of one weight: the factors of the plain LoRAs (see `low_rank.joined`), None without, then the rest.

    up [out, r], down [r, in * kh * kw]; on any device, `write` sends them to the weight's.
    """

    factors: tuple[Tensor, Tensor] | None
    others: tuple[Change, ...]


def fuse(changes: Sequence[Change]) -> Fused:
    """The plain LoRAs among the changes as one pair of factors, the others in their order."""
    plain = [change for change in changes if isinstance(change.adapter, LoRA)]
    others = tuple(change for change in changes if not isinstance(change.adapter, LoRA))
    if not plain:
        return Fused(None, others)
    return Fused(joined([adapter for adapter, _ in plain], [strength for _, strength in plain]), others)


def apply_(weight: Tensor, changes: Sequence[Change], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
    """Writes the changes into a weight, each times its own strength and the common one.

    The plain LoRAs are added first, as one product in fp32, without a second tensor of the weight's size. The other
    kinds follow in their order, and those that depend on the weight see what came before. Another dtype is rounded
    once, at the end.

    [out, in, ...] -> the same tensor

    Raises:
        LoRAError: an adapter that does not fit.
    """
    _check(weight, changes)
    return write(weight, weight, fuse(changes), strength, match_comfyui=match_comfyui)


def applied(weight: Tensor, changes: Sequence[Change], *, match_comfyui: bool = False) -> Tensor:
    """As `apply_`, into a new tensor. [out, in, ...] -> the same shape and type"""
    _check(weight, changes)
    return write(torch.empty_like(weight), weight, fuse(changes), match_comfyui=match_comfyui)


def _check(weight: Tensor, changes: Sequence[Change]) -> None:
    for adapter, _ in changes:
        if isinstance(adapter, LoRA) and (reason := adapter.misfit(weight.shape)):
            raise LoRAError(reason)


def write(into: Tensor, weight: Tensor, fused: Fused, strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
    """Writes a weight with its changes into a tensor like it, which may be the weight itself; on the weight's device.

    On a card nothing is waited for, and of the whole weight there is one pass: into fp32 in place, into fp16 and bf16
    by way of the product in fp32, of which 256 MB exist at a time.

    [out, in, ...] -> `into`
    """
    with torch.no_grad():
        factors = None
        if fused.factors is not None:
            up, down = (sent(factor, weight.device).float() for factor in fused.factors)
            if len(up) != len(weight) or down.shape[1] != weight[0].numel():
                raise LoRAError(f"the changes are for {[len(up), down.shape[1]]}, the weight is {list(weight.shape)}")
            factors = up, down
        if factors and not fused.others and weight.dtype != torch.float32:
            return _add_in_tiles(into, weight, *factors, strength)
        total = into.copy_(weight) if weight.dtype == torch.float32 and into is not weight else weight.float()
        if factors:
            _add_(total, *factors, strength)
        for adapter, own in fused.others:
            moved = on_device(adapter, weight.device)
            total += moved.delta(total, own * strength, match_comfyui=match_comfyui)
        return into if total is into else into.copy_(total)


def _add_(total: Tensor, up: Tensor, down: Tensor, strength: float) -> None:
    if total.is_contiguous():
        total.view(len(total), -1).addmm_(up, down, alpha=strength)
    else:
        total.add_((up @ down).view(total.shape), alpha=strength)


def _add_in_tiles(into: Tensor, weight: Tensor, up: Tensor, down: Tensor, strength: float) -> Tensor:
    """Some rows at a time: of the whole weight there is never a copy in fp32, unless it fits a card's tile."""
    on_card = weight.device.type != "cpu"
    rows = min(len(weight), max(1, (_CARD_TILE if on_card else _TILE) // down.shape[1]))
    direct = on_card and weight.dtype in _ADDS_FP32
    buffer = None if direct else torch.empty(rows, *weight.shape[1:], dtype=torch.float32, device=weight.device)
    for start in range(0, len(weight), rows):
        some, target = weight[start : start + rows], into[start : start + rows]
        if direct:
            product = (up[start : start + rows] @ down).view(some.shape)
            torch.add(some, product, alpha=strength, out=target)
        else:
            total = buffer[: len(some)].copy_(some)
            _add_(total, up[start : start + rows], down, strength)
            target.copy_(total)
    return into
