"""What plans, tiles and hosts ask of a VAE network. Each kind of network is a subclass, in `vae_core/networks`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from types import ModuleType
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from ..config import Values
from ..layers import Device, Operations
from ..posterior import Encoding, mean_of
from .sweeps import Activations, Sweeps
from .tiles import Size
from .waiting import Waiting

Shape = tuple[int, int, int, int]  # of latents: [B, C, h, w]
WITHOUT = {  # what to say where a half is missing, by what was asked for
    "encode": "this VAE file holds only a decoder: it turns latents into pictures; load the full VAE to encode a "
    "picture",
    "decode": "this VAE file holds only an encoder: it turns pictures into latents; load the full VAE to decode a "
    "latent",
}


class NetworkConfig(Protocol):
    """The sizes of a VAE network."""

    @property
    def latent(self) -> int:
        """Channels of its latent."""

    @property
    def factor(self) -> int:
        """Picture pixels per latent cell, along each side."""

    @property
    def image_channels(self) -> int:
        """Channels of its pictures."""

    def widths_of(self, way: str) -> tuple[int, ...]:
        """Channels at each size on the way ("encode", "decode"), the picture's own size first."""

    def values(self, way: str, px: int) -> Values:
        """The values that a picture of `px` pixels needs on that way."""


class VAENetwork(nn.Module):
    """Pixels to latents and back: two halves with something before and behind each, and both by tiles.

    A subclass states its kind, has `config`, and fills the methods without a body. `operations` is the namespace that
    its layers come from (Conv2d, GroupNorm). Sizes are [B, 3, H, W] in -1..1 and raw latents [B, C, h, w].
    """

    kind: ClassVar[str]  # its row in `networks.table.NETWORKS`, and what reports call it: "kl"
    title: ClassVar[str]  # in sentences: "AutoencoderKL"
    has_distribution: ClassVar[bool] = False  # whether `encoding` gives a Posterior
    has_frames: ClassVar[bool] = False  # whether it takes videos, [B, 3, T, H, W] and latents [B, C, t, h, w]
    steps: ClassVar[tuple[type[nn.Module], ...]] = ()  # its parts that run once a picture: progress counts them
    config: NetworkConfig

    def __init__(
        self,
        config: NetworkConfig,
        operations: Operations | ModuleType = nn,
        device: Device = None,
        dtype: torch.dtype | None = None,
        *,
        encoder: bool = True,
        decoder: bool = True,
    ):
        """`encoder=False` or `decoder=False` leaves that half out."""
        super().__init__()
        self.config = config

    @abstractmethod
    def half_for(self, way: str) -> nn.Module:
        """The encoder ("encode") or the decoder ("decode"). Raises ValueError where it was left out."""

    @abstractmethod
    def into_encoder(self, pixels: Tensor) -> Tensor:
        """The encoder's input. [B, 3, H, W] -> [B, 3, H, W]"""

    @abstractmethod
    def as_encoding(self, result: Tensor) -> Encoding:
        """The encoder's result as a distribution or a latent. [B, *encoder_shape] -> [B, C, h, w]"""

    @abstractmethod
    def into_decoder(self, latent: Tensor) -> Tensor:
        """The decoder's input. [B, C, h, w] -> whatever the decoder takes"""

    @abstractmethod
    def as_pixels(self, result: Tensor) -> Tensor:
        """The decoder's result as pixels. [B, 3, H, W] -> [B, 3, H, W]"""

    @abstractmethod
    def encoder_shape(self, size: Size) -> tuple[int, int, int]:
        """Channels, height and width of the encoder's result for a picture of that size in px."""

    @abstractmethod
    def sweep_encode(self, sweeps: Sweeps, pixels: Activations, into: Waiting) -> None:
        """The encoder by tiles: one picture, into [1, *encoder_shape]. With device "meta" it only counts tiles."""

    @abstractmethod
    def sweep_decode(self, sweeps: Sweeps, latent: Activations, into: Waiting) -> None:
        """The decoder by tiles: one picture, into [1, 3, H, W]. With device "meta" it only counts tiles."""

    @classmethod
    def sized(cls, config: NetworkConfig, way: str, shape: Sequence[int]) -> tuple[NetworkConfig, Shape]:
        """The sizes that plans count with, and the latent's [B, C, h, w], for pixels or a latent of that shape."""
        cell_px = config.factor if way == "encode" else 1
        return config, (shape[0], config.latent, shape[-2] // cell_px, shape[-1] // cell_px)

    def decoded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the pixels of a latent of that shape."""
        return shape[0], self.config.image_channels, *(self.config.factor * side for side in shape[-2:])

    def tiled_shape(self, way: str, shape: Sequence[int]) -> tuple[int, int, int]:
        """What a half gives by tiles for pixels or a latent of that shape: channels, height and width."""
        if way == "encode":
            return self.encoder_shape((shape[-2], shape[-1]))
        return self.config.image_channels, self.config.factor * shape[-2], self.config.factor * shape[-1]

    def step_count(self, way: str, shape: Sequence[int]) -> int:
        """How often `steps` run for pixels or a latent of that shape, all at once."""
        return sum(isinstance(part, self.steps) for part in self.half_for(way).modules())

    def check_encodes(self, pixels: Tensor) -> None:
        """Raises ValueError for pixels that do not fit, or without an encoder."""
        self.half_for("encode")
        check_pixels(pixels, self.config.image_channels, self.config.factor)

    def check_decodes(self, latent: Tensor) -> None:
        """Raises ValueError for a latent that does not fit, or without a decoder."""
        self.half_for("decode")
        check_latent(latent, self.config.latent)

    def encoding(self, pixels: Tensor) -> Encoding:
        """Pixels -1..1 -> the distribution of their raw latent, of a kind without one the latent. [B, 3, H, W] ->

        Raises ValueError for another shape, a side that is no multiple of `config.factor`, or without an encoder.
        """
        self.check_encodes(pixels)
        return self.as_encoding(self.half_for("encode")(self.into_encoder(pixels)))

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels -1..1 -> raw latent, the mean of a distribution, as hosts expect. [B, 3, H, W] -> [B, C, h, w]

        Raises as `encoding`.
        """
        return mean_of(self.encoding(pixels))

    def decode(self, latent: Tensor) -> Tensor:
        """Raw latent -> pixels, about -1..1, not clamped; a new tensor. [B, C, h, w] -> [B, 3, h*factor, w*factor]

        Raises ValueError for another number of channels, or without a decoder.
        """
        self.check_decodes(latent)
        return self.as_pixels(self.half_for("decode")(self.into_decoder(latent)))


def has_half(network: VAENetwork, way: str) -> bool:
    """Whether the encoder ("encode") or the decoder ("decode") is there."""
    try:
        network.half_for(way)
    except ValueError:
        return False
    return True


def check_pixels(pixels: Tensor, channels: int, factor: int) -> None:
    """Raises ValueError unless pixels are [B, channels, H, W] with both sides non-zero multiples of `factor`."""
    if pixels.ndim != 4 or pixels.shape[1] != channels:
        raise ValueError(f"this VAE wants pixels [B, {channels}, H, W], not {list(pixels.shape)}")
    height, width = pixels.shape[2:]
    if not height or not width or height % factor or width % factor:
        raise ValueError(
            f"this VAE wants sides that are multiples of {factor} px, not {height} x {width} px: "
            "crop or pad the picture first"
        )


def check_latent(latent: Tensor, channels: int) -> None:
    """Raises ValueError unless the latent is [B, channels, h, w] with cells in it."""
    if latent.ndim != 4:
        raise ValueError(f"this VAE wants a latent [B, {channels}, h, w], not {list(latent.shape)}")
    if latent.shape[1] != channels:
        raise ValueError(
            f"this latent has {latent.shape[1]} channels, this VAE wants {channels}: "
            "use the VAE of the model that made it"
        )
    if not latent.shape[2] or not latent.shape[3]:
        raise ValueError(f"this latent is empty {list(latent.shape)}: there is nothing to decode")
