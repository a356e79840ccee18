"""Fusing: all changes of one weight in one step, the plain LoRAs as one product of thin factors, then the other kinds.

The product is made in fp32 and rounded once, whatever the weight is. On a CUDA card that is fp32 as long as
`torch.backends.cuda.matmul.allow_tf32` is off, which is torch's default and ComfyUI's; turning TF32 on turns it on for
ComfyUI's own patches too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..kinds.adapters import Adapter, LoRA, LoRAError, on_device, send
from ..kinds.widening import Widening, inside, pad_inputs, widen
from .low_rank import join_factors

_TILE = 2**21  # numbers of a weight that are converted to fp32 at one time: as many as fit a CPU's cache
_CARD_TILE = 2**26  # 256 MB of a card's memory: Flux' largest weight, of 66 million numbers, in one pass
_ADDS_FP32 = (torch.float16, torch.bfloat16)  # a card adds fp32 to them and rounds once, in one kernel


class Change(NamedTuple):
    """One adapter at one strength."""

    adapter: Adapter
    strength: float


class Fused(NamedTuple):
    """All changes of one weight: the factors of the plain LoRAs (see `join_factors`), or None, and the other changes.

    up [out, r], down [r, in * kh * kw]; on any device, `write` sends them to the weight's. `shape` is that of the
    weight after a control LoRA has widened it, else None; the other changes are of the weight as it was.
    """

    factors: tuple[Tensor, Tensor] | None
    others: tuple[Change, ...]
    shape: tuple[int, ...] | None = None


def fuse(changes: Sequence[Change]) -> Fused:
    """Fuse joins the plain LoRAs among the changes into one pair of factors and keeps the other changes in their order.

    Args:
        changes: all changes of one weight.

    Returns:
        The parts of a patch, which `write` applies to the weight.

    Raises:
        LoRAError: plain LoRAs of weights of different sizes.

    >>> import torch
    >>> one, two = LoRA(torch.ones(4, 1), torch.ones(1, 3), 1.0), LoRA(torch.ones(4, 2), torch.ones(2, 3), 2.0)
    >>> up, down = fuse([Change(one, 0.5), Change(two, 1.0)]).factors
    >>> list(up.shape), list(down.shape)
    ([4, 3], [3, 3])
    >>> (up @ down)[0].tolist()
    [2.5, 2.5, 2.5]
    """
    plain = [change for change in changes if isinstance(change.adapter, LoRA | Widening)]
    others = tuple(change for change in changes if not isinstance(change.adapter, LoRA | Widening))
    if not plain:
        return Fused(None, others)
    shape = _widest([change.adapter for change in plain])
    loras = [_plain(change.adapter, shape) for change in plain]
    return Fused(join_factors(loras, [change.strength for change in plain]), others, shape)


def _widest(adapters: Sequence[Adapter]) -> tuple[int, ...] | None:
    """The shape that fits all control LoRAs among the adapters; None without any."""
    shapes = [adapter.shape for adapter in adapters if isinstance(adapter, Widening)]
    return tuple(map(max, *shapes, shapes[0])) if shapes else None


def _plain(adapter: Adapter, shape: tuple[int, ...] | None) -> LoRA:
    """A LoRA, or the one inside a control LoRA, of the widened weight where there is one."""
    if isinstance(adapter, Widening):
        adapter = adapter.widened()
    if not isinstance(adapter, LoRA):
        raise LoRAError(f"a plain LoRA was expected, not {adapter.kind}")
    return adapter if shape is None else pad_inputs(adapter, shape)


def apply_(weight: Tensor, changes: Sequence[Change], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
    """Apply the changes to a weight in place, each times its own strength and the common strength.

    The plain LoRAs are added first, as one product in fp32, without a second tensor of the weight's size. The other
    kinds follow in their order, and a kind that depends on the weight gets the weight as changed so far. Another dtype
    is rounded once, at the end.

    [out, in, ...] -> the same tensor

    Raises:
        LoRAError: an adapter that does not fit, or that widens the weight, which cannot be done in place.
    """
    _check_fit(weight, changes)
    fused = fuse(changes)
    if fused.shape not in (None, tuple(weight.shape)):
        raise LoRAError(f"a control LoRA widens {list(weight.shape)} to {list(fused.shape or ())}: only a copy can be")
    return write(weight, weight, fused, strength, match_comfyui=match_comfyui)


def apply(weight: Tensor, changes: Sequence[Change], *, match_comfyui: bool = False) -> Tensor:
    """Apply the changes to a copy of a weight, as `apply_` does in place. [out, in, ...] -> the same type and shape

    A control LoRA (`Widening`) makes the copy wider.

    Args:
        weight: of any floating type, on any device.
        changes: adapters with their strengths.
        match_comfyui: makes the change that ComfyUI's own loader makes, where that differs from the trainer's.

    Raises:
        LoRAError: an adapter does not fit the weight.

    >>> import torch
    >>> apply(torch.zeros(2, 2), [Change(LoRA(torch.ones(2, 1), torch.ones(1, 2), 1.0), 0.5)]).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    _check_fit(weight, changes)
    return write(torch.empty_like(weight), weight, fuse(changes), match_comfyui=match_comfyui)


def _check_fit(weight: Tensor, changes: Sequence[Change]) -> None:
    for adapter, _ in changes:
        if isinstance(adapter, LoRA | Widening) and (reason := adapter.misfit(weight.shape)):
            raise LoRAError(reason)


def write(into: Tensor, weight: Tensor, fused: Fused, strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
    """Write a weight with its changes into a tensor of its shape, type and device, which may be the weight itself.

    A weight that becomes wider is written into a new tensor instead.

    On a card the CPU waits for nothing, and one pass reads the weight: fp32 is changed in place, fp16 and bf16 get the
    product added in fp32, of which 256 MB exist at a time.

    [out, in, ...] -> `into`, or the new tensor
    """
    with torch.no_grad():
        shape = tuple(weight.shape)
        if fused.shape is not None and fused.shape != shape:
            weight = into = widen(weight, fused.shape)
        factors = None
        if fused.factors is not None:
            up, down = (send(factor, weight.device).float() for factor in fused.factors)
            if len(up) != len(weight) or down.shape[1] != weight[0].numel():
                raise LoRAError(f"the changes are for {[len(up), down.shape[1]]}, the weight is {list(weight.shape)}")
            factors = up, down
        if factors and not fused.others and weight.dtype != torch.float32:
            return _add_in_tiles(into, weight, *factors, strength)
        total = into.copy_(weight) if weight.dtype == torch.float32 and into is not weight else weight.float()
        if factors:
            _add_(total, *factors, strength)
        for adapter, own in fused.others:
            moved, part = on_device(adapter, weight.device), inside(total, shape)
            part += moved.delta(part, own * strength, match_comfyui=match_comfyui)
        return into if total is into else into.copy_(total)


def _add_(total: Tensor, up: Tensor, down: Tensor, strength: float) -> None:
    if total.is_contiguous():
        total.view(len(total), -1).addmm_(up, down, alpha=strength)
    else:
        total.add_((up @ down).view(total.shape), alpha=strength)


def _add_in_tiles(into: Tensor, weight: Tensor, up: Tensor, down: Tensor, strength: float) -> Tensor:
    """Add the product to some rows at a time, so that no fp32 copy of the whole weight exists."""
    on_card = weight.device.type != "cpu"
    rows = min(len(weight), max(1, (_CARD_TILE if on_card else _TILE) // down.shape[1]))
    direct = on_card and weight.dtype in _ADDS_FP32
    buffer = torch.empty(0 if direct else rows, *weight.shape[1:], dtype=torch.float32, device=weight.device)
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
