"""How near one picture is to another."""

import math

import torch
from torch import Tensor

from .wide import wide

SSIM_WINDOW_PX = 11
_SSIM_SIGMA_PX, _K1, _K2 = 1.5, 0.01, 0.03


def psnr_db(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio of values in 0..1, in dB: 10 log10(1 / mean squared difference); inf for equal ones.

    Two tensors of one shape; computed in float64.
    """
    return _decibels((wide(first) - wide(second)).square().mean().item())


def psnr_db_each(first: Tensor, second: Tensor) -> list[float]:
    """`psnr_db` of each pair; asked for once, so that a card is waited for once. Two of [B, ...] -> B values"""
    errors = [(wide(one) - wide(other)).square().mean() for one, other in zip(first, second)]
    return [_decibels(error) for error in torch.stack(errors).tolist()]


def _decibels(error: float) -> float:
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of each pair, -1..1, and 1 for equal pictures; values are in 0..1.

    Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality assessment: from error visibility to structural similarity":
    a Gaussian window of 11 px (sigma 1.5 px) at every place where it lies inside the picture, K1 = 0.01, K2 = 0.03; the
    mean over places and channels. In float64, since variances are differences of near numbers.

    Two of [B, H, W, C] -> [B] float64, on their device or, where that has no float64, on the CPU.
    Raises ValueError where the shapes differ or a side is smaller than the window.
    """
    if first.shape != second.shape or first.ndim != 4 or min(first.shape[1:3]) < SSIM_WINDOW_PX:
        raise ValueError(
            f"SSIM compares two batches [B, H, W, C] of one shape with sides of {SSIM_WINDOW_PX} px or "
            f"more, not {list(first.shape)} and {list(second.shape)}: scale one of them"
        )
    pairs = zip(first, second)  # a channel of a picture at a time, since the maps are many
    return torch.stack(
        [
            torch.stack([_similarity(wide(one[..., c]), wide(other[..., c])) for c in range(one.shape[-1])]).mean()
            for one, other in pairs
        ]
    )


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    """Mean SSIM of one channel. Two of [H, W] -> []"""
    maps = _windowed(torch.stack([x, y, x * x + y * y, x * y]))  # [4, H - 10, W - 10]
    mean_x, mean_y, squares, product = maps
    means = mean_x.square() + mean_y.square()
    c1, c2 = _K1**2, _K2**2
    luminance = (2 * mean_x * mean_y + c1) / (means + c1)
    structure = (2 * (product - mean_x * mean_y) + c2) / (squares - means + c2)
    return (luminance * structure).mean()


def _windowed(maps: Tensor) -> Tensor:
    """The Gaussian mean round every place that has a whole window. [N, H, W] -> [N, H - 10, W - 10]"""
    reach = SSIM_WINDOW_PX // 2
    weights = [math.exp(-(place**2) / (2 * _SSIM_SIGMA_PX**2)) for place in range(-reach, reach + 1)]
    for side in (1, 2):
        length = maps.shape[side] - 2 * reach
        blurred = torch.zeros_like(maps.narrow(side, 0, length))
        for place, weight in enumerate(weights):
            blurred.add_(maps.narrow(side, place, length), alpha=weight / sum(weights))
        maps = blurred
    return maps


def amplified_difference(first: Tensor, second: Tensor, gain: float) -> Tensor:
    """|first - second| * gain, cut to 0..1, so that small errors can be seen. Any one shape -> the same."""
    return ((first - second).abs() * gain).clamp(0, 1)
