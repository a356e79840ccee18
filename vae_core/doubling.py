"""Nearest-neighbour doubling and a 3x3 convolution in one, with fewer multiplications than one after the other."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

CARDS = frozenset({"cuda", "xpu"})  # where kernels are many times quicker to run than to start
PIXELS = ((0, 0), (0, 1), (1, 0), (1, 1))  # of a doubled cell: row, column


def doubled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """conv2d(interpolate(x, 2, "nearest"), weight, bias, padding=1), as four 2x2 convolutions before the doubling.

    A pixel of the doubled input is one of only 2x2 cells below a 3x3 kernel, so kernel taps that meet the same cell
    are summed (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"): 16 taps for the
    four pixels of a cell instead of 36. [B, C, H, W], [D, C, 3, 3] and [D] -> [B, D, 2H, 2W]
    """
    height, width = x.shape[2:]
    if x.device.type in CARDS and not torch.is_grad_enabled():
        return doubled_at_once(x, weight, bias)
    kernels = _summed(weight)
    parts = (
        functional.conv2d(x, kernel, bias, padding=1)[:, :, row : row + height, column : column + width]
        for (row, column), kernel in kernels
    )
    if torch.is_grad_enabled():
        both = torch.stack(tuple(parts), 2).unflatten(2, (2, 2))  # [B, D, 2, 2, H, W]
        return both.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)
    return _interleaved(parts, (len(x), len(weight), 2 * height, 2 * width))


def _interleaved(parts: Iterator[Tensor], shape: tuple[int, int, int, int]) -> Tensor:
    """The pixels of a cell from their four pictures, one of which at a time needs memory. 4 x [B, D, H, W] -> shape"""
    first = next(parts)
    last = torch.channels_last if first.stride(1) == 1 else torch.contiguous_format
    out = torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=last)
    out[:, :, ::2, ::2] = first
    del first
    for row, column in PIXELS[1:]:
        out[:, :, row::2, column::2] = next(parts)
    return out


def doubled_at_once(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`doubled` in four kernels for a card: sum the taps, convolve once for all four pixels, put them in their places.

    The taps of a 2x2 kernel are sums of 2x2 neighbours of the 3x3 kernel with zeros round it.
    """
    (batch, _, height, width), outer = x.shape, len(weight)
    sums = functional.avg_pool2d(weight, 2, 1, padding=1, divisor_override=1)  # [D, C, 4, 4], summed in float32
    taps = sums.unflatten(3, (2, 2)).unflatten(2, (2, 2))  # [D, C, tap, row, tap, column]
    kernels = taps.permute(3, 5, 0, 1, 2, 4).reshape(4 * outer, -1, 2, 2)  # of each pixel of a cell
    all_four = functional.conv2d(x, kernels, None if bias is None else bias.repeat(4), padding=1).contiguous()
    every, channel, line, one = all_four.stride()  # [B, 4D, H + 1, W + 1]
    down, right = 2 * outer * channel + line, outer * channel + one  # to the next pixel's kernel, whose cells lie so
    places = (batch, outer, height, 2, width, 2)
    pixels = all_four.as_strided(places, (every, channel, line, down, one, right), all_four.storage_offset())
    return pixels.reshape(batch, outer, 2 * height, 2 * width)


def _summed(weight: Tensor) -> list[tuple[tuple[int, int], Tensor]]:
    """The 2x2 kernel of each pixel of a doubled cell, by its row and column there. [D, C, 3, 3] -> 4 x [D, C, 2, 2]"""
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    rows = {0: (wide[:, :, 0], wide[:, :, 1] + wide[:, :, 2]), 1: (wide[:, :, 0] + wide[:, :, 1], wide[:, :, 2])}
    kernels = []
    for row, pair in rows.items():
        tall = torch.stack(pair, 2)  # [D, C, 2, 3]
        for column, columns in (
            (0, (tall[..., 0], tall[..., 1] + tall[..., 2])),
            (1, (tall[..., 0] + tall[..., 1], tall[..., 2])),
        ):
            kernels.append(((row, column), torch.stack(columns, 3).to(weight.dtype)))
    return kernels
