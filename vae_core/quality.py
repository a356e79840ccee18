"""How near one picture is to another, how a latent is distributed, and the ways between two latents."""

import math

import torch
from torch import Tensor
from torch.nn import functional

_WINDOW, _SIGMA = 11, 1.5      # Wang et al. 2004, section III
_STABLE = (0.01**2, 0.03**2)   # (K1 L)^2 and (K2 L)^2 for values in 0..1
_COLLINEAR = 1e-6              # radians: below this the sphere is flat to rounding


def psnr_db(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio of values in 0..1, in dB: 10 log10(1 / mean squared difference); inf for equal ones.

    Two tensors of one shape; computed in float64.
    """
    error = (first.double() - second.double()).square().mean().item()
    return math.inf if error == 0 else -10 * math.log10(error)


def amplified_difference(first: Tensor, second: Tensor, gain: float) -> Tensor:
    """|first - second| * gain, cut to 0..1, so that small errors can be seen. Any one shape -> the same."""
    return ((first - second).abs() * gain).clamp(0, 1)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of pictures in 0..1: the mean over channels and all whole windows, 1 for equal ones.

    Wang, Bovik, Sheikh & Simoncelli 2004, "Image quality assessment", with its 11 x 11 Gaussian window of sigma 1.5.
    Two tensors [B, C, H, W] -> [B], in float64. Raises ValueError for other shapes and pictures below 11 px.
    """
    if first.ndim != 4 or first.shape != second.shape:
        raise ValueError(f"two pictures [B, C, H, W] of one size are compared, not {list(first.shape)} and "
                         f"{list(second.shape)}")
    if min(first.shape[2:]) < _WINDOW:
        raise ValueError(f"SSIM looks through a window of {_WINDOW} px: a picture of {first.shape[2]} x "
                         f"{first.shape[3]} px is too small")
    x, y = first.double(), second.double()
    mean_x, mean_y = _seen(x), _seen(y)
    spread_x, spread_y = _seen(x * x) - mean_x**2, _seen(y * y) - mean_y**2
    together = _seen(x * y) - mean_x * mean_y
    likeness = ((2 * mean_x * mean_y + _STABLE[0]) * (2 * together + _STABLE[1])
                / ((mean_x**2 + mean_y**2 + _STABLE[0]) * (spread_x + spread_y + _STABLE[1])))
    return likeness.mean((1, 2, 3))


def _seen(x: Tensor) -> Tensor:
    """The mean through the window at each place where it lies inside. [B, C, H, W] -> [B, C, H - 10, W - 10]"""
    offsets = torch.arange(_WINDOW, dtype=x.dtype, device=x.device) - _WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    flat = x.flatten(0, 1)[:, None]                                               # [B * C, 1, H, W]
    flat = functional.conv2d(functional.conv2d(flat, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return flat[:, 0].unflatten(0, x.shape[:2])


def kl_by_channel(mean: Tensor, logvar: Tensor) -> Tensor:
    """Divergence from the standard normal of each channel, in nats, summed over its cells. 2 x [B, C, h, w] -> [B, C]

    In float32 at least.
    """
    mean, logvar = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (mean, logvar))
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum((2, 3))


def between(first: Tensor, second: Tensor, share: float) -> Tensor:
    """The straight way: `first` at share 0, `second` at 1. Two of one shape -> the same"""
    return first + (second - first) * share


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """The way over the sphere: `first` at share 0, `second` at 1, the angle between proportional to the share.

    Each item of the batch is one vector. Lengths change evenly, so that noise stays noise (Shoemake 1985, "Animating
    rotation with quaternion curves"). Vectors of one direction, or one of length zero, go the straight way; opposite
    ones have no way of their own and go straight too. Two [B, ...] of one shape -> the same, in their dtype
    """
    a, b = (t.flatten(1).to(torch.promote_types(t.dtype, torch.float32)) for t in (first, second))
    lengths = [t.norm(dim=1, keepdim=True) for t in (a, b)]                       # [B, 1]
    u, v = (t / length.clamp(min=torch.finfo(t.dtype).tiny) for t, length in zip((a, b), lengths))
    # the angle from chord and counter-chord (Kahan): as exact for nearly equal directions as for opposite ones
    angle = 2 * torch.atan2((u - v).norm(dim=1, keepdim=True), (u + v).norm(dim=1, keepdim=True))
    flat = (angle < _COLLINEAR) | (math.pi - angle < _COLLINEAR) | (lengths[0] == 0) | (lengths[1] == 0)
    sine = torch.where(flat, torch.ones_like(angle), angle.sin())
    direction = (torch.sin((1 - share) * angle) * u + torch.sin(share * angle) * v) / sine
    curved = direction * (lengths[0] + (lengths[1] - lengths[0]) * share)
    return torch.where(flat, between(a, b, share), curved).view(first.shape).to(first.dtype)
