"""The sizes of the small diffusion model, and how its latents relate to the raw ones of its autoencoder."""

from dataclasses import dataclass

import torch
from torch import Tensor

NORM_GROUPS = 8
HEAD = 32  # the width of an attention head


class DiffusionError(ValueError):
    """A diffusion model that cannot be built, read or sampled; the message is one sentence for the user."""


@dataclass(frozen=True)
class DiffusionConfig:
    """A U-Net in numbers: level `i` is `widths[i]` wide at 1 / 2**i of the latent's size, with `blocks[i]` residual
    blocks on the way down and as many on the way up.

    text: width of the text encoder's hidden states. attention: the first level with attention, within the picture and
    to the text. time: width of the vector that tells every block the noise level and the gist of the text.
    """

    latent: int = 4
    text: int = 64
    widths: tuple[int, ...] = (64, 96, 128)
    blocks: tuple[int, ...] = (2, 2, 1)
    attention: int = 1
    time: int = 128

    def __post_init__(self):
        numbers = (self.latent, self.text, self.time, len(self.widths), *self.widths, *self.blocks)
        if min(numbers) < 1 or len(self.blocks) != len(self.widths) or self.time % 8:
            raise DiffusionError(
                f"expected sizes of at least 1, as many blocks as widths, and a time of a multiple of 8, not {self}"
            )
        if odd := [width for width in self.widths if width % NORM_GROUPS]:
            raise DiffusionError(f"a width of {odd[0]} is no multiple of {NORM_GROUPS}, the groups of its norms")
        if odd := [width for width in self.widths[self.attention :] if width % HEAD]:
            raise DiffusionError(f"a width of {odd[0]} is no multiple of {HEAD}, the width of an attention head")

    @property
    def factor(self) -> int:
        """A latent's sides are multiples of this many cells."""
        return 2 ** (len(self.widths) - 1)


@dataclass(frozen=True, eq=False)
class LatentScale:
    """model space = (raw - shift) * scale for each latent channel; [C] float32 each."""

    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, raw: Tensor, least: float = 0.05) -> "LatentScale":
        """Measure the scale that gives each channel of these raw latents deviation 1. [B, C, h, w]

        A channel whose deviation is below `least` carries nothing: dividing by it would blow up its noise, so its
        scale is that of a channel of deviation 1.
        """
        deviation, mean = torch.std_mean(raw.double(), dim=(0, 2, 3))
        scale = torch.where(deviation >= least, 1 / deviation.clamp(min=least), torch.ones_like(deviation))
        return cls(scale.float(), mean.float())

    def to_model(self, raw: Tensor) -> Tensor:
        """Raw latent -> model space, in its type. [B, C, ...]"""
        scale, shift = self._numbers(raw)
        return (raw - shift) * scale

    def to_raw(self, latent: Tensor) -> Tensor:
        """Model space -> raw latent, in its type. [B, C, ...]"""
        scale, shift = self._numbers(latent)
        return latent / scale + shift

    def _numbers(self, like: Tensor) -> tuple[Tensor, Tensor]:
        if like.shape[1] != len(self.scale):
            raise DiffusionError(
                f"this latent has {like.shape[1]} channels, the diffusion model's have {len(self.scale)}: "
                "encode with the VAE that belongs to it"
            )
        shape = (-1,) + (1,) * (like.ndim - 2)
        return self.scale.to(like).view(shape), self.shift.to(like).view(shape)
