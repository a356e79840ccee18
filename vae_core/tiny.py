"""The TAESD family: two small stacks of convolutions that imitate a big VAE, in about 1 % of its time.

From madebyollin/taesd (taesd.py): taesd, taesdxl, taesd3, taef1, and taef2, whose middle blocks look at the whole
picture through a group norm, and taesana (Sana's DC-AE, 32 px per cell). The stacks work in model space and on
pictures in 0..1; this class takes and gives what ComfyUI does: pixels in -1..1, raw latents, and for taef2 the Flux.2
latent with 2 x 2 cells folded into 128 channels.
Tensor names are ComfyUI's own: `taesd_encoder.N`, `taesd_decoder.N`, `vae_scale`, `vae_shift`.
"""

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

from .autoencoder import check_latent, check_pixels
from .config import fold, unfold
from .layers import Device, Layers, as_computed

WIDTH = 64
_POOL_GROUPS, _POOL_EPS = 4, 1e-5
_CELL_PX, _DEEP_CELL_PX = 8, 32


@dataclass(frozen=True)
class TinyConfig:
    """raw latent = stack's latent / scale + shift, then `patch` x `patch` cells folded into the channels."""

    latent: int  # channels of the latent as ComfyUI has it: the stack's own times patch * patch
    pooled: bool = False  # taef2: the blocks at latent size look at the whole picture
    scale: float = 1.0
    shift: float = 0.0
    patch: int = 1  # taef2: 2
    deep: bool = False  # taesana: two more halvings
    image_channels: int = 3

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at the picture's size and at the next."""
        return (WIDTH, WIDTH)

    decoder_widths = widths

    @property
    def stack_latent(self) -> int:
        """Channels between the two stacks."""
        return self.latent // self.patch**2

    @property
    def factor(self) -> int:
        """Picture pixels per latent cell, along each side."""
        return (_DEEP_CELL_PX if self.deep else _CELL_PX) * self.patch


class Clamp(nn.Module):
    """Softly into -3..3. Any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    """relu(x + three convolutions of x); with `pooled`, a wide normalised 1x1 path is added first.

    [B, width, H, W] -> [B, width, H, W]
    """

    def __init__(self, layers: Layers, pooled: bool = False, width: int = WIDTH):
        super().__init__()
        self.conv = nn.Sequential(
            layers.conv(width, width), nn.ReLU(), layers.conv(width, width), nn.ReLU(), layers.conv(width, width)
        )
        wide = 4 * width
        self.pool = (
            nn.Sequential(
                layers.conv(width, wide, 1, bias=False),
                layers.norm(wide, _POOL_GROUPS, _POOL_EPS),
                nn.ReLU(),
                layers.conv(wide, width, 1, bias=False),
            )
            if pooled
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(x + self.conv(x))


def _encoder(config: TinyConfig, layers: Layers) -> nn.Sequential:
    """Pictures 0..1 -> model-space latent. [B, 3, H, W] -> [B, C, H / 8, W / 8]; deep: / 32"""
    stack = [layers.conv(3, WIDTH), Block(layers)]
    if config.deep:
        half = WIDTH // 2
        stack = [layers.conv(3, half, stride=2), nn.ReLU(), layers.conv(half, WIDTH, stride=2), nn.ReLU()]
        stack += [Block(layers)]
    for last in (False, False, True):
        stack += [layers.conv(WIDTH, WIDTH, stride=2, bias=False)]
        stack += [Block(layers, config.pooled and last) for _ in range(3)]
    return nn.Sequential(*stack, layers.conv(WIDTH, config.stack_latent))


def _decoder(config: TinyConfig, layers: Layers) -> nn.Sequential:
    """Model-space latent -> pictures, about 0..1. [B, C, h, w] -> [B, 3, 8h, 8w]; deep: 32h"""
    widths = (4 * WIDTH, 2 * WIDTH, WIDTH, WIDTH, WIDTH, WIDTH) if config.deep else (WIDTH,) * 4
    stack = [Clamp(), layers.conv(config.stack_latent, widths[0]), nn.ReLU()]
    for width, after in zip(widths, widths[1:]):
        stack += [Block(layers, config.pooled and len(stack) < 6, width) for _ in range(3)]
        # published: one module doubles the size, the next convolves
        stack += [nn.Identity(), layers.up_conv(width, after, bias=False)]
    return nn.Sequential(*stack, Block(layers), layers.conv(WIDTH, 3))


class TinyAutoencoder(nn.Module):
    """Both stacks; `encoder=False` or `decoder=False` leaves one out. `operations` gives Conv2d and GroupNorm."""

    def __init__(
        self,
        config: TinyConfig,
        operations: ModuleType | type = nn,
        device: Device = None,
        dtype: torch.dtype | None = None,
        *,
        encoder: bool = True,
        decoder: bool = True,
    ):
        super().__init__()
        layers = Layers(operations, device, dtype)
        self.config = config
        self.taesd_encoder = _encoder(config, layers) if encoder else None
        self.taesd_decoder = _decoder(config, layers) if decoder else None
        self.register_buffer("vae_scale", torch.tensor(config.scale, device=device))
        self.register_buffer("vae_shift", torch.tensor(config.shift, device=device))

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels -1..1 -> raw latent. [B, 3, H, W] -> [B, C, H / factor, W / factor]

        Raises ValueError for another shape, a side that is no multiple of `config.factor`, or without an encoder.
        """
        self.check_encodes(pixels)
        return self.as_latent(self.taesd_encoder(self.into_encoder(pixels)))

    def decode(self, latent: Tensor) -> Tensor:
        """Raw latent -> pixels, about -1..1, not clamped; a new tensor. [B, C, h, w] -> [B, 3, h*factor, w*factor]

        Raises ValueError for another number of channels, or without a decoder.
        """
        self.check_decodes(latent)
        return self.as_pixels(self.taesd_decoder(self.into_decoder(latent)))

    def into_encoder(self, pixels: Tensor) -> Tensor:
        """What `encode` gives its stack: 0..1. [B, 3, H, W] -> the same"""
        return as_computed(pixels * 0.5 + 0.5)

    def as_latent(self, latent: Tensor) -> Tensor:
        """What `encode` makes of its stack's result. [B, stack_latent, ..] -> [B, C, h, w]"""
        return fold(latent / self.vae_scale.to(latent) + self.vae_shift.to(latent), self.config.patch).contiguous()

    def into_decoder(self, latent: Tensor) -> Tensor:
        """What `decode` gives its stack. [B, C, h, w] -> [B, stack_latent, ..]"""
        latent = unfold(latent, self.config.patch)
        return as_computed((latent - self.vae_shift.to(latent)) * self.vae_scale.to(latent))

    def as_pixels(self, picture: Tensor) -> Tensor:
        """What `decode` makes of its stack's result. [B, 3, H, W] -> the same"""
        return (picture - 0.5) * 2

    def check_encodes(self, pixels: Tensor) -> None:
        """Raises ValueError where `encode` does."""
        if self.taesd_encoder is None:
            raise ValueError("this tiny VAE has only its decoder: load its encoder file too to encode a picture")
        check_pixels(pixels, 3, self.config.factor)

    def check_decodes(self, latent: Tensor) -> None:
        """Raises ValueError where `decode` does."""
        if self.taesd_decoder is None:
            raise ValueError("this tiny VAE has only its encoder: load its decoder file too to decode a latent")
        check_latent(latent, self.config.latent)
