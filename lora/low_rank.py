"""Algebra on thin factors: changes are added, measured and looked into without their product ever being made."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .adapters import Adapter, LoRA, LoRAError
from .kinds import SizePart, row_of

_PIECE = 2**18  # numbers at a time, which stay in the cache


def plain_factors(lora: LoRA, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """up and down in fp32 whose product is the change at this strength; a middle tensor goes into down.

    -> [out, r], [r, in * kh * kw]
    """
    return lora.factors(strength)


def stack(
    loras: Sequence[LoRA], strengths: Sequence[float], device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """One pair of factors for the sum of several changes of one weight: side by side, scales and strengths in one.

    They are made on `device`, by default that of the first adapter; what is fp16 travels there as fp16.
    -> [out, r1 + r2 + ...], [r1 + r2 + ..., in * kh * kw], fp32

    Raises:
        LoRAError: none at all, or changes of weights of different sizes.
    """
    if not loras or len(loras) != len(strengths):
        raise LoRAError(f"{len(loras)} adapters come with {len(strengths)} strengths: expected one for each")
    device = loras[0].up.device if device is None else device
    ups = [lora.up.to(device).flatten(1) for lora in loras]
    downs = [lora.down.to(device).flatten(1) if lora.mid is None else plain_factors(lora)[1].to(device)
             for lora in loras]  # fmt: skip
    sizes = sorted({(len(up), down.shape[1]) for up, down in zip(ups, downs)})
    if len(sizes) > 1:
        raise LoRAError(f"changes of different weights cannot be added: {' and '.join(str(list(s)) for s in sizes)}")
    up, down = torch.cat(ups, 1).float(), torch.cat(downs).float()  # joined while they are small, then cast
    ranks = torch.tensor([one.shape[1] for one in ups], device=device)
    scales = torch.tensor([lora.scale * strength for lora, strength in zip(loras, strengths)], device=device)
    scales = scales.repeat_interleave(ranks)  # [r1 + r2 + ...]
    return (up * scales, down) if len(up) <= down.shape[1] else (up, down * scales[:, None])


def norm(up: Tensor, down: Tensor) -> float:
    """The Frobenius norm of up @ down, from the two Gram matrices, in fp64. [out, r], [r, in] -> >= 0"""
    up, down = up.double(), down.double()
    return float(((up.mT @ up) * (down @ down.mT)).sum().clamp_min(0).sqrt())


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
