"""Algebra on thin factors: changes are added, measured and looked into without their product ever being made."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..kinds.adapters import Adapter, LoRA, LoRAError
from ..kinds.table import SizePart, row_of

_PIECE = 2**18  # numbers at a time, which stay in the cache


def plain_factors(lora: LoRA, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """up and down in fp32 whose product is the change at this strength; a middle tensor goes into down.

    -> [out, r], [r, in * kh * kw]
    """
    return lora.factors(strength)


def joined(loras: Sequence[LoRA], strengths: Sequence[float]) -> tuple[Tensor, Tensor]:
    """One pair of factors for the sum of several changes of one weight: side by side, scales and strengths in one.

    That one is the smaller of the two, in fp32; the other stays as the files have it (fp32 where they differ or a
    middle tensor is in it, fp16 for fp8, which holds every number of it), so that no more travels to a card than must.
    Computed where the factors lie.
    -> [out, r1 + r2 + ...], [r1 + r2 + ..., in * kh * kw]

    Raises:
        LoRAError: none at all, or changes of weights of different sizes.
    """
    if not loras or len(loras) != len(strengths):
        raise LoRAError(f"{len(loras)} adapters come with {len(strengths)} strengths: expected one for each")
    ups = [_addable(lora.up.flatten(1)) for lora in loras]
    downs = [_addable(lora.down.flatten(1)) if lora.mid is None else plain_factors(lora)[1] for lora in loras]
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
    return factor.half() if factor.element_size() == 1 else factor  # torch does not join fp8 everywhere


def norm(up: Tensor, down: Tensor) -> float:
    """The Frobenius norm of up @ down, from the two Gram matrices, summed in fp64. [out, r], [r, in] -> >= 0

    The matrices themselves are made in the factors' type, at least fp32: their sums of a few thousand products are
    right to a millionth.
    """
    up, down = (factor if factor.dtype == torch.float64 else factor.float() for factor in (up, down))
    return math.sqrt(max(0.0, ((up.mT @ up).double() * (down @ down.mT).double()).sum().item()))


def frobenius(tensor: Tensor) -> float:
    """The root of the sum of the squares of a tensor of any floating type and shape.

    A piece at a time, in fp32 and summed in fp64: torch's own norm of fp32 is eight times slower on a CPU, and on
    millions of numbers a thousandth off. -> >= 0
    """
    squares = 0.0
    for piece in tensor.detach().reshape(-1).split(_PIECE):
        wide = piece.float()
        squares += torch.dot(wide, wide).item()
    return math.sqrt(squares)


def change_norm(adapter: Adapter) -> float | None:
    """The Frobenius norm of a change at strength 1, where it is known without making the change; else None."""
    row = row_of(adapter)
    return None if row is None or row.size is None else math.prod(_norm_of(part) for part in row.size(adapter))


def _norm_of(part: SizePart) -> float:
    if isinstance(part, Tensor):
        return frobenius(part)
    return norm(*part) if isinstance(part, tuple) else abs(part)


def relative_norm(up: Tensor, down: Tensor, weight: Tensor) -> float:
    """The size of the change up @ down beside the weight's own, both Frobenius norms; inf for a weight of zeros."""
    own = frobenius(weight)
    change = norm(up, down)
    return change / own if own else (0.0 if change == 0 else float("inf"))


def singular_values(up: Tensor, down: Tensor) -> Tensor:
    """Of up @ down, largest first, by two QR decompositions and the SVD of their small product.

    [out, r], [r, in] -> [min(out, r, in)], fp32
    """
    left, right = torch.linalg.qr(up.float(), mode="r").R, torch.linalg.qr(down.float().mT, mode="r").R
    return torch.linalg.svdvals(left @ right.mT)
