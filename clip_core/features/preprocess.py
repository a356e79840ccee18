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
import torch.nn.functional as F
from torch import Tensor

from ..config import RESIZES
from ..device import has_float64

_BITS = 22  # of a coefficient behind the point
_REACH = 2.0  # pixels to either side in the cubic's support
_SHARPNESS = -0.5  # Catmull-Rom
Band = tuple[int, int, Tensor]  # source pixels [first, last) of a line, and weights [band, last - first]
_BAND = 32  # output pixels of one matrix product


def _pixels_at_once(image: Tensor) -> int:
    """The number of pixels that become float64 at once: on a CPU as many as stay in its cache."""
    return 1 << 16 if image.device.type == "cpu" else 1 << 24


def preprocess(
    image: Tensor, size_px: int, mean: Sequence[float], std: Sequence[float], *, resize: str = "crop"
) -> Tensor:
    """Make pictures square, and normalise each colour. `resize` "crop": scale the shorter side to `size_px` and cut out
    the centre; "squash": scale each side to it by itself (open_clip's `resize_mode`).

    [B, H, W, 3 or 4] in 0..1 -> float32 [B, 3, size_px, size_px] on the device of `image`; raises as `squares`
    """
    return normalise(squares(image, size_px, resize).to(image.device), mean, std)


def laid_over(image: Tensor, ground: float) -> tuple[Tensor, int]:
    """Lay pictures with a fourth channel, how opaque they are, over a grey ground. A card is waited for once.

    Where the fourth channel is NaN, the result is. [B, H, W, 3 or 4] in 0..1 -> [B, H, W, 3], and the number of
    pictures that are transparent anywhere
    """
    if image.shape[-1] != 4:
        return image, 0
    opaque = image[..., 3:].clamp(0, 1)
    clear = int((~(opaque >= 1)).flatten(1).any(1).sum())  # NaN is not opaque
    return (image[..., :3] * opaque + ground * (1 - opaque) if clear else image[..., :3]), clear


def squares(image: Tensor, size_px: int, resize: str = "crop", ground: float = 1.0) -> Tensor:
    """Make pictures square, as bytes: a quarter of the memory of normalised pixels, for the transfer to a card.

    `image` is rounded to 8 bits first, as it was in its file; alpha, if any, is left out. The sums need float64: a
    picture on a device without it is moved to the CPU, so that its pixels are the same on all devices.
    "pad" shows the whole picture, the longer side scaled to `size_px`, on a grey `ground` in 0..1.
    [B, H, W, 3 or 4] in 0..1 -> uint8 [B, 3, size_px, size_px], on the CPU where the device has no float64

    Raises:
        ValueError: the pictures have no pixels, or no colours, or there is no such `resize`.
    """
    if image.ndim != 4 or image.shape[-1] not in (3, 4) or 0 in image.shape:
        raise ValueError(
            f"pictures of shape [batch, height, width, 3] were expected and {list(image.shape)} came; "
            "give RGB pictures that have pixels"
        )
    if resize not in RESIZES:
        raise ValueError(f"resize is {resize!r}; it must be one of {', '.join(RESIZES)}")
    at_once = max(1, _pixels_at_once(image) // (image.shape[1] * image.shape[2]))
    return torch.cat([square_of(eight_bit(some), size_px, resize, ground) for some in image.split(at_once)])


def eight_bit(image: Tensor) -> Tensor:
    """Round to 8 bits. [B, H, W, 3 or 4] in 0..1, clipped -> uint8 [B, 3, H, W]; on the CPU without float64"""
    exact = (image if has_float64(image.device) else image.cpu())[..., :3]
    found = torch.empty(exact.shape, dtype=torch.uint8, device=exact.device)
    rows = max(1, _pixels_at_once(exact) // (len(image) * image.shape[2]))
    for some, place in zip(exact.split(rows, 1), found.split(rows, 1)):
        place.copy_(some.double().clamp_(0, 1).mul_(255).round_())
    return found.permute(0, 3, 1, 2)


def square_of(picture: Tensor, size_px: int, resize: str = "crop", ground: float = 1.0) -> Tensor:
    """Resize as Pillow does and crop or pad, computing the pixels of the square alone: time grows with the source, and
    not with the part that the crop cuts away.

    uint8 [..., 3, H, W] -> uint8 [..., 3, size_px, size_px]
    """
    height, width = picture.shape[-2:]
    tall, wide = new_size(height, width, size_px, resize)
    shown_tall, shown_wide = min(tall, size_px), min(wide, size_px)
    across, down = _on(
        picture.device,
        _bands(width, wide, crop_offset(wide, shown_wide), shown_wide),
        _bands(height, tall, crop_offset(tall, shown_tall), shown_tall),
    )
    top, bottom = down[0][0], down[-1][1]
    wide_lines = [  # [..., 3, h, n] each
        _rounded(_doubles(picture[..., top:bottom, first:last]) @ rows.T) for first, last, rows in across
    ]
    lines = torch.cat(wide_lines, -1)  # [..., 3, h, W]
    found = torch.cat(
        [_rounded(rows @ _doubles(lines[..., first - top : last - top, :])) for first, last, rows in down], -2
    )
    return found if resize != "pad" else _padded(found, size_px, ground)


def _padded(picture: Tensor, size_px: int, ground: float) -> Tensor:
    tall, wide = picture.shape[-2:]
    left, top = (size_px - wide) // 2, (size_px - tall) // 2
    sides = (left, size_px - wide - left, top, size_px - tall - top)
    return F.pad(picture, sides, value=round(255 * ground))


def _on(device: torch.device, *directions: list[Band]) -> list[list[Band]]:
    """Move bands to this device, all in one transfer."""
    if device.type == "cpu":
        return list(directions)
    numbers = [rows.numel() for bands in directions for _, _, rows in bands]
    moved = iter(torch.cat([rows.flatten() for bands in directions for _, _, rows in bands]).to(device).split(numbers))
    return [[(first, last, next(moved).view(rows.shape)) for first, last, rows in bands] for bands in directions]


def _doubles(x: Tensor) -> Tensor:
    return x.to(torch.float64, memory_format=torch.contiguous_format)


def normalise(square: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise colours as ToTensor and Normalize do. Divisors are tensors made on the device: torch multiplies by the
    rounded inverse of a Python number on a card, and a tensor of the CPU would have to be moved.

    [B, 3, S, S] in 0..255, of any type -> float32 [B, 3, S, S]
    """

    def filled(value: float) -> Tensor:
        return torch.full((), value, dtype=torch.float32, device=square.device)

    pixels = square.float() / filled(255.0)
    for colour, shift, scale in zip(pixels.unbind(-3), mean, std):
        colour.sub_(filled(shift)).div_(filled(scale))
    return pixels


def resized(height: int, width: int, size_px: int) -> tuple[int, int]:
    """Height and width with a shorter side of `size_px`. The longer one is rounded down, as torchvision does."""
    if width <= height:
        return int(size_px * height / width), size_px
    return size_px, int(size_px * width / height)


def new_size(height: int, width: int, size_px: int, resize: str) -> tuple[int, int]:
    """Height and width of the whole picture, scaled for a square."""
    if resize == "squash":
        return size_px, size_px
    if resize == "pad":
        longest = max(height, width)
        return max(1, round(size_px * height / longest)), max(1, round(size_px * width / longest))
    return resized(height, width, size_px)


def crop_offset(length: int, size_px: int) -> int:
    """The first pixel of the centre of a side."""
    return int(round((length - size_px) / 2.0))  # half to even, as torchvision does


def _rounded(sums: Tensor) -> Tensor:
    """Fixed point to 8 bits, half rounded up, clipped. Overwrites its input. float64 -> uint8"""
    return sums.add_(2.0 ** (_BITS - 1)).mul_(2.0**-_BITS).floor_().clamp_(0, 255).byte()


@lru_cache(maxsize=16)
def _bands(length: int, new: int, start: int, count: int) -> list[Band]:
    """Pillow's coefficients, times 2**22, for `count` pixels from `start` of a line that is resized from `length` to
    `new` pixels. For each _BAND of these pixels: the part first..last of the line that they depend on, and float64
    weights [band, last - first].
    """
    rows = [_coefficients(length, new, place) for place in range(start, start + count)]
    bands = []
    for begin in range(0, count, _BAND):
        some = rows[begin : begin + _BAND]
        first, last = min(row[0] for row in some), max(row[0] + len(row[1]) for row in some)
        band = torch.zeros(len(some), last - first, dtype=torch.float64)
        for number, (where, weights) in enumerate(some):
            band[number, where - first : where - first + len(weights)] = torch.tensor(weights, dtype=torch.float64)
        bands.append((first, last, band))
    return bands


def _coefficients(length: int, new: int, place: int) -> tuple[int, list[float]]:
    """The coefficients of one pixel: the first pixel of the line that it depends on, and whole numbers."""
    if length == new:  # Pillow skips this direction; a single coefficient of 1 does the same
        return place, [2.0**_BITS]
    scale = length / new
    stretch = max(scale, 1.0)
    centre = (place + 0.5) * scale
    first = max(0, int(centre - _REACH * stretch + 0.5))
    last = min(length, int(centre + _REACH * stretch + 0.5))
    weights = [_cubic((at - centre + 0.5) * (1.0 / stretch)) for at in range(first, last)]
    total = sum(weights)
    fixed = [weight / total * 2.0**_BITS for weight in weights]
    return first, [math.trunc(weight + math.copysign(0.5, weight)) for weight in fixed]


def _cubic(x: float) -> float:
    """Keys' cubic convolution kernel, in Pillow's order of operations."""
    x, a = abs(x), _SHARPNESS
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    if x < 2.0:
        return (((x - 5) * x + 8) * x - 4) * a
    return 0.0
