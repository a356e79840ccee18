"""Algebra on thin factors: sums, norms and singular values of changes, without ever making the dense product."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..kinds.adapters import Adapter, LoRA, LoRAError
from ..kinds.table import SizePart, row_of
from ..kinds.widening import Widening

_PIECE = 2**18  # the numbers of one step: as many as stay in the CPU's cache


def join_factors(loras: Sequence[LoRA], strengths: Sequence[float]) -> tuple[Tensor, Tensor]:
    """One pair of factors whose product is the sum of several changes of one weight: all ups and all downs, joined.

    Scales and strengths are multiplied into the smaller of the two, which becomes fp32. The other keeps the type of the
    files, so that little is copied to a card (fp32 where the types differ or a middle tensor is in it; fp16 for fp8,
    which it holds exactly). The factors stay on their device.
    -> [out, r1 + r2 + ...], [r1 + r2 + ..., in * kh * kw]

    Raises:
        LoRAError: no LoRAs at all, or LoRAs of weights of different sizes.
    """
    if not loras or len(loras) != len(strengths):
        raise LoRAError(f"{len(loras)} adapters come with {len(strengths)} strengths: expected one for each")
    ups = [_addable(lora.up.flatten(1)) for lora in loras]
    downs = [_addable(lora.down.flatten(1)) if lora.mid is None else lora.factors()[1] for lora in loras]
    sizes = sorted({(len(up), down.shape[1]) for up, down in zip(ups, downs)})
    if len(sizes) > 1:
        raise LoRAError(f"changes of different weights cannot be added: {' and '.join(str(list(s)) for s in sizes)}")
    scales = [lora.scale * strength for lora, strength in zip(loras, strengths)]
    if sizes[0][0] <= sizes[0][1]:
        ups = [up.float() * scale for up, scale in zip(ups, scales)]
    else:
        downs = [down.float() * scale for down, scale in zip(downs, scales)]
    return torch.cat(ups, 1), torch.cat(downs)


def _addable(factor: Tensor) -> Tensor:
    return factor.half() if factor.element_size() == 1 else factor  # torch cannot join fp8 on every device


def norm(up: Tensor, down: Tensor) -> float:
    """The Frobenius norm of up @ down, from the two Gram matrices, summed in fp64. [out, r], [r, in] -> >= 0

    The Gram matrices are made in the factors' type, at least fp32: sums of a few thousand products are right to a
    millionth.
    """
    up, down = (factor if factor.dtype == torch.float64 else factor.float() for factor in (up, down))
    return math.sqrt(max(0.0, ((up.mT @ up).double() * (down @ down.mT).double()).sum().item()))


def frobenius(tensor: Tensor) -> float:
    """The Frobenius norm of a tensor of any floating type and shape. -> >= 0

    It is computed piece by piece in fp32 and summed in fp64: torch's own norm of fp32 is eight times slower on a CPU,
    and wrong by a thousandth on millions of numbers.
    """
    squares = 0.0
    for piece in tensor.detach().reshape(-1).split(_PIECE):
        wide = piece.float()
        squares += torch.dot(wide, wide).item()
    return math.sqrt(squares)


def change_norm(adapter: Adapter) -> float | None:
    """The Frobenius norm of a change at strength 1; None where only the dense change would tell."""
    adapter = adapter.inner if isinstance(adapter, Widening) else adapter
    row = row_of(adapter)
    return None if row is None or row.size is None else math.prod(_norm_of(part) for part in row.size(adapter))


def _norm_of(part: SizePart) -> float:
    if isinstance(part, Tensor):
        return frobenius(part)
    return norm(*part) if isinstance(part, tuple) else abs(part)


def singular_values(up: Tensor, down: Tensor) -> Tensor:
    """The singular values of up @ down, largest first, by two QR decompositions and the SVD of their small product.

    [out, r], [r, in] -> [min(out, r, in)], fp32
    """
    left, right = torch.linalg.qr(up.float(), mode="r").R, torch.linalg.qr(down.float().mT, mode="r").R
    return torch.linalg.svdvals(left @ right.mT)
