"""Latents as data: drawn from a family's prior, mixed with one another, and how far each channel is from the prior."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import prior_sample
from .posterior import doubled_divergence
from .wide import wide

_STRAIGHT = 1e-7  # sine of an angle below which an arc and a line are the same to float32


def prior(shape: Sequence[int], seed: int, family: str | None = None) -> Tensor:
    """Noise with the statistics of a family's raw latents, or, without a family, of the standard normal.

    A latent is about standard normal where the diffusion model works; scale and shift take it back. Drawn on the CPU in
    float64 and rounded, so that the processor's own float32 sine and logarithm make no difference, and one picture
    after another, so that the first is the same however many follow. [B, C, h, w]
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.stack(
        [torch.randn(tuple(shape[1:]), generator=generator, dtype=torch.float64) for _ in range(shape[0])]
    )
    return (noise if family is None else prior_sample(noise, family)).float()


@dataclass(frozen=True)
class Mixed:
    """A mixture, every factor of the first pair, then of the second; and what the pairs were like."""

    latent: Tensor  # [B * factors, C, ...], in the first's type, on its device
    cosine: Tensor  # [B] float64, of each pair; NaN where one of them is zero
    straight: Tensor  # [B], True where there is no one arc between the two: opposite, or one of them zero


def interpolate(first: Tensor, second: Tensor, factors: Sequence[float], *, spherical: bool) -> Mixed:
    """From the first latent (factor 0) to the second (factor 1), over all of each sample.

    Linear: (1 - t) * first + t * second. Spherical (Shoemake 1985, "Animating rotation with quaternion curves"): the
    direction turns along the great circle, the length goes linearly; where there is no one such circle, linear.

    [B or 1, C, ...] each -> Mixed. Raises ValueError for other shapes or numbers of latents.
    """
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"two latents of one shape were expected, but the first is {list(first.shape)} and the second "
            f"{list(second.shape)}: scale one of them, and take both from one VAE"
        )
    if len(first) != len(second) and 1 not in (len(first), len(second)):
        raise ValueError(
            f"as many latents on both sides, or one on one of them, were expected, but there are "
            f"{len(first)} and {len(second)}: take as many from each batch"
        )
    batch, sample = max(len(first), len(second)), first.shape[1:]
    a, b = (wide(latent).flatten(1).expand(batch, -1) for latent in (first, second.to(first.device)))  # [B, N]
    t = torch.tensor(list(factors), dtype=torch.float64, device=a.device).view(1, -1)  # [1, F]
    a_length, b_length = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)  # [B, 1]
    angle = _angle(a / a_length, b / b_length)  # [B, 1], NaN beside a zero
    line = ~(angle.sin() > _STRAIGHT)  # and beside a NaN
    a_share, b_share = 1 - t.expand(batch, -1), t.expand(batch, -1)  # [B, F]
    if spherical:
        length = a_share * a_length + b_share * b_length
        a_share = torch.where(line, a_share, (a_share * angle).sin() / angle.sin() * length / a_length)
        b_share = torch.where(line, b_share, (b_share * angle).sin() / angle.sin() * length / b_length)
    mixed = a_share[..., None] * a[:, None] + b_share[..., None] * b[:, None]  # [B, F, N]
    straight = line & ~(angle < 1)  # the same direction is no loss: there the line is the arc
    latent = mixed.to(first.dtype).to(first.device)  # in this order: the device may not know the wide type
    return Mixed(latent.reshape(-1, *sample), angle.cos()[:, 0], straight[:, 0])


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """Between unit vectors, exact near 0 and near pi, where arccos is not (Kahan). [B, N] each -> [B, 1]"""
    return 2 * torch.atan2((a - b).norm(dim=1, keepdim=True), (a + b).norm(dim=1, keepdim=True))


@dataclass(frozen=True)
class ChannelStatistics:
    """The channels of a posterior over all pictures and cells. Each is [C], float64, where `wide` puts it."""

    kl: Tensor  # divergence from the standard normal in nats: the sum over cells, the mean over pictures
    mean: Tensor  # of the means
    std: Tensor  # of the means: what differs from cell to cell
    noise: Tensor  # root of the mean variance: what the distribution leaves open


def channel_statistics(mean: Tensor, logvar: Tensor) -> ChannelStatistics:
    """Two of [B, C, h, w] or, of videos, [B, C, t, h, w] -> ChannelStatistics."""
    mean, logvar = (wide(values).flatten(2) for values in (mean, logvar))  # [B, C, cells]
    kl = 0.5 * doubled_divergence(mean, logvar)
    cells = (0, 2)
    return ChannelStatistics(
        kl.sum(2).mean(0), mean.mean(cells), mean.std(cells, correction=0), logvar.exp().mean(cells).sqrt()
    )


def bits_per_pixel(kl: Tensor, height_px: int, width_px: int) -> float:
    """What the channels tell about each pixel of a picture. [C] in nats -> bits"""
    return float(kl.sum()) / math.log(2) / (height_px * width_px)
