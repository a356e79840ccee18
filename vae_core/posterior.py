"""The normal distribution that an encoder gives of a latent, and the latent that is wanted of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .layers import Device


@dataclass(frozen=True)
class Posterior:
    """The normal distribution of a latent, every cell and channel independent: raw, as ComfyUI's latents are.

    mean and logvar are [B, C, h, w], of a video [B, C, t, h, w]; logvar is within -30..20.
    """

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> Posterior:
        """[B, 2C, h, w], the mean first -> Posterior of [B, C, h, w]"""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30.0, 20.0))

    @property
    def mode(self) -> Tensor:
        """The likeliest latent: the mean. [B, C, h, w]"""
        return self.mean

    @property
    def std(self) -> Tensor:
        """Standard deviation. [B, C, h, w]"""
        return torch.exp(0.5 * self.logvar)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A draw; the same generator state gives the same latent (drawn on the generator's device). [B, C, h, w]"""
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + self.std * noise.to(self.mean.device)

    def kl(self) -> Tensor:
        """Divergence from the standard normal, in nats, summed over each item's latent (in float32 at least). [B]"""
        mean, logvar = (t if t.dtype == torch.float64 else t.float() for t in (self.mean, self.logvar))
        return 0.5 * doubled_divergence(mean, logvar).flatten(1).sum(1)

    def to(self, device: Device) -> Posterior:
        """The same distribution on another device, moved in one transfer; itself where it is there already."""
        if self.mean.device == torch.device(device or "cpu"):
            return self
        return Posterior(*torch.stack((self.mean, self.logvar)).to(device))


Encoding = Posterior | Tensor  # what an encoder gives: a distribution, or, of a kind that has none, the latent


def mean_of(encoding: Encoding) -> Tensor:
    """The latent of an encoding: the mean of a distribution. -> [B, C, h, w]"""
    return encoding.mean if isinstance(encoding, Posterior) else encoding


def latent_of(encoding: Encoding, seed: int | None) -> Tensor:
    """The latent of an encoding: the mean, or with a seed a sample; a latent without a distribution is itself.

    A sample depends on the seed alone: its noise is drawn on the CPU, whatever the device. -> [B, C, h, w]
    """
    if not isinstance(encoding, Posterior) or seed is None:
        return mean_of(encoding)
    mean = encoding.mean
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return mean + encoding.std * noise.to(mean)


def joined(encodings: list[Encoding]) -> Encoding:
    """Encodings of one kind as one batch, in their order."""
    posteriors = [each for each in encodings if isinstance(each, Posterior)]
    if posteriors:
        return Posterior(torch.cat([each.mean for each in posteriors]), torch.cat([each.logvar for each in posteriors]))
    return torch.cat([mean_of(each) for each in encodings])


def doubled_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Twice the divergence of each value's normal distribution from the standard one, in nats (Kingma and Welling 2013,
    arXiv 1312.6114, appendix B). Any shape.
    """
    return mean.square() + logvar.exp() - 1.0 - logvar
