"""Pictures -> normalised squares, equal to the last bit to openai/CLIP's `_transform` (Pillow and torchvision), in
torch alone.

Resize(size, bicubic), CenterCrop(size), ToTensor, Normalize. Pillow resamples 8-bit pictures in fixed point:
coefficients of 22 bits, rounded, a horizontal pass rounded to 8 bits, then a vertical one (Pillow
src/libImaging/Resample.c). Every intermediate sum is an integer below 2**53, so a float64 matrix product gives it
exactly, in any order of summation.

Pillow 13 (2026) runs the vertical pass first where the height loses more than twice as many pixels as the width, in
pictures more than about twice as tall as wide. Published CLIPs saw the older order, which is kept here under every
Pillow; such a picture can differ by a level of 255 from what Pillow 13 makes of it.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

RESIZES = ("crop", "squash")

_BITS = 22  # of a coefficient behind the point
_REACH = 2.0  # pixels to either side that the cubic looks at
_SHARPNESS = -0.5  # Catmull-Rom


def preprocess(
    image: Tensor, size_px: int, mean: Sequence[float], std: Sequence[float], *, resize: str = "crop"
) -> Tensor:
    """Make squares of pictures, and normalise each colour. `resize` "crop": scale the shorter side to `size_px` and cut
    out the centre; "squash": scale both sides to it, each by itself (open_clip's `resize_mode`).

    `image` is rounded to 8 bits first, as it was in its file; alpha, if any, is left out.
    [B, H, W, 3 or 4] in 0..1 -> float32 [B, 3, size_px, size_px]

    Raises:
        ValueError: there are no pixels, or no colours, or no such `resize`.
    """
    if image.ndim != 4 or image.shape[-1] not in (3, 4) or 0 in image.shape:
        raise ValueError(
            f"pictures of shape [batch, height, width, 3] were expected and {list(image.shape)} came; "
            "give RGB pictures that have pixels"
        )
    if resize not in RESIZES:
        raise ValueError(f"resize is {resize!r}; it must be one of {', '.join(RESIZES)}")
    height, width = image.shape[1:3]
    tall, wide = resized(height, width, size_px) if resize == "crop" else (size_px, size_px)
    top, left = _crop_offset(tall, size_px), _crop_offset(wide, size_px)
    exact = image.cpu() if image.device.type == "mps" else image  # it has no float64
    eight_bit = (exact[..., :3].double().clamp(0, 1) * 255).round().permute(0, 3, 1, 2)  # [B, 3, H, W]
    across = _coefficients(width, wide, left, size_px).to(eight_bit.device)         # [S, W]
    down = _coefficients(height, tall, top, size_px).to(eight_bit.device)           # [S, H]
    square = _rounded(down @ _rounded(eight_bit @ across.T))                        # [B, 3, S, S]
    return normalise(square.to(image.device), mean, std)


def normalise(square: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """[B, 3, S, S] in 0..255, of any type -> float32 [B, 3, S, S], as ToTensor and Normalize make it"""
    shift, scale = (torch.tensor(values, device=square.device)[:, None, None] for values in (mean, std))
    return (square.float() / 255 - shift) / scale


def resized(height: int, width: int, size_px: int) -> tuple[int, int]:
    """Height and width when the shorter side is `size_px`; the longer one is rounded down, as torchvision does."""
    if width <= height:
        return int(size_px * height / width), size_px
    return size_px, int(size_px * width / height)


def _crop_offset(length: int, size_px: int) -> int:
    return int(round((length - size_px) / 2.0))  # half to even, as torchvision does


def _rounded(sums: Tensor) -> Tensor:
    """Fixed point to 8 bits: half is rounded up, then clipped."""
    return torch.floor((sums + 2.0 ** (_BITS - 1)) / 2.0**_BITS).clamp(0, 255)


@lru_cache(maxsize=8)
def _coefficients(length: int, new: int, start: int, count: int) -> Tensor:
    """Pillow's coefficients, times 2**22, for `count` pixels from `start` of a line of `length` pixels made `new` long.

    -> float64 [count, length]
    """
    rows = torch.zeros(count, length, dtype=torch.float64)
    if length == new:  # Pillow leaves such a direction out; one whole coefficient does the same
        rows[torch.arange(count), torch.arange(start, start + count)] = 2.0**_BITS
        return rows
    scale = length / new
    stretch = max(scale, 1.0)
    for row in range(count):
        centre = (start + row + 0.5) * scale
        first = max(0, int(centre - _REACH * stretch + 0.5))
        last = min(length, int(centre + _REACH * stretch + 0.5))
        weights = [_cubic((place - centre + 0.5) * (1.0 / stretch)) for place in range(first, last)]
        total = sum(weights)
        fixed = [weight / total * 2.0**_BITS for weight in weights]
        fixed = [math.trunc(weight + math.copysign(0.5, weight)) for weight in fixed]
        rows[row, first:last] = torch.tensor(fixed, dtype=torch.float64)
    return rows


def _cubic(x: float) -> float:
    """Keys' cubic convolution kernel, in Pillow's order of operations."""
    x, a = abs(x), _SHARPNESS
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    if x < 2.0:
        return (((x - 5) * x + 8) * x - 4) * a
    return 0.0
