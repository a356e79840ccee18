"""The sizes of the small diffusion model, and how its latents relate to the raw ones of its autoencoder."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

NORM_GROUPS = 8
_HEADER = "diffusion."


class DiffusionError(ValueError):
    """A diffusion model that cannot be built, read or sampled; the message is one sentence for the user."""


@dataclass(frozen=True)
class DiffusionConfig:
    """A U-Net in numbers: level `i` is `widths[i]` wide at 1 / 2**i of the latent's size, with `blocks[i]` residual
    blocks on the way down and as many on the way up.

    text: width of the text encoder's hidden states. attention: the first level with attention, within the picture and
    to the text; head: the width of one of its heads. time: width of the vector that tells every block the noise level
    and the gist of the text.
    """

    latent: int = 4
    text: int = 64
    widths: tuple[int, ...] = (64, 96, 128)
    blocks: tuple[int, ...] = (2, 2, 1)
    attention: int = 1
    head: int = 32
    time: int = 128

    def __post_init__(self):
        numbers = (self.latent, self.text, self.time, self.head, len(self.widths), *self.widths, *self.blocks)
        if min(numbers) < 1 or len(self.blocks) != len(self.widths) or self.time % 8:
            raise DiffusionError(
                f"expected sizes of at least 1, as many blocks as widths, and a time of a multiple of 8, not {self}"
            )
        if odd := [width for width in self.widths if width % NORM_GROUPS]:
            raise DiffusionError(f"a width of {odd[0]} is no multiple of {NORM_GROUPS}, the groups of its norms")
        if odd := [width for width in self.widths[self.attention :] if width % self.head]:
            raise DiffusionError(f"a width of {odd[0]} is no multiple of {self.head}, the width of an attention head")

    @property
    def factor(self) -> int:
        """A latent's sides are multiples of this many cells."""
        return 2 ** (len(self.widths) - 1)

    def to_metadata(self) -> dict[str, str]:
        """The sizes as texts, for a file's header."""
        return {
            _HEADER + field.name: " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            for field in fields(self)
            for value in [getattr(self, field.name)]
        }

    @classmethod
    def from_metadata(cls, header: dict[str, str]) -> "DiffusionConfig":
        """The sizes in a file's header. Raises DiffusionError where one is missing or no number."""
        try:
            return cls(
                **{
                    field.name: tuple(map(int, header[_HEADER + field.name].split()))
                    if field.name in ("widths", "blocks")
                    else int(header[_HEADER + field.name])
                    for field in fields(cls)
                }
            )
        except (KeyError, ValueError) as error:
            raise DiffusionError(
                f"the file's header does not give the sizes of a diffusion model of this pack ({error}): "
                "expected one that CVL's training wrote"
            ) from error


@dataclass(frozen=True)
class LatentScale:
    """model space = (raw - shift) * scale for each latent channel; each tuple has as many numbers as channels."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    @classmethod
    def of(cls, raw: Tensor, least: float = 0.05) -> "LatentScale":
        """Measure the scale that gives each channel of these raw latents deviation 1. [B, C, h, w]

        A channel whose deviation is below `least` carries nothing: dividing by it would blow up its noise, so its
        scale is that of a channel of deviation 1.
        """
        deviation, mean = torch.std_mean(raw.double(), dim=(0, 2, 3))
        live = deviation >= least
        scale = torch.where(live, 1 / deviation.clamp(min=least), torch.ones_like(deviation))
        return cls(tuple(scale.tolist()), tuple(mean.tolist()))

    def to_model(self, raw: Tensor) -> Tensor:
        """Raw latent -> model space, in its type. [B, C, h, w]"""
        scale, shift = self._numbers(raw)
        return (raw - shift) * scale

    def to_raw(self, latent: Tensor) -> Tensor:
        """Model space -> raw latent, in its type. [B, C, h, w]"""
        scale, shift = self._numbers(latent)
        return latent / scale + shift

    def _numbers(self, like: Tensor) -> tuple[Tensor, Tensor]:
        if like.shape[1] != len(self.scale):
            raise DiffusionError(
                f"this latent has {like.shape[1]} channels, the diffusion model's have {len(self.scale)}: "
                "encode with the VAE that belongs to it"
            )
        scale, shift = (
            torch.tensor(numbers, device=like.device, dtype=like.dtype)[:, None, None]
            for numbers in (self.scale, self.shift)
        )
        return scale, shift
