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

from ..config import Values, fold, unfold
from ..layers import Device, Layers, Operations, as_computed
from ..tiling.network import VAENetwork
from ..tiling.sweeps import Activations, Sweeps
from ..tiling.tiles import Size
from ..tiling.waiting import Waiting
from .tiny_sweeps import WIDTH, Block, sweep_stack

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

    def widths_of(self, way: str) -> tuple[int, ...]:
        """Channels at each size: both ways the same."""
        return self.widths

    @property
    def stack_latent(self) -> int:
        """Channels between the two stacks."""
        return self.latent // self.patch**2

    @property
    def factor(self) -> int:
        """Picture pixels per latent cell, along each side."""
        return (_DEEP_CELL_PX if self.deep else _CELL_PX) * self.patch

    def values(self, way: str, px: int) -> Values:
        """A block's input and two of its layers at once; between sweeps a picture of half the size and its next."""
        once, waits, middle = 3 * WIDTH * px, 1.25 * WIDTH * px / 4, 5 * 4 * WIDTH * px / 64
        return Values(once, waits, middle, once_on_card=once, largest=WIDTH * px, scores=0)


class Clamp(nn.Module):
    """Softly into -3..3. Any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


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


_WITHOUT = {  # what to say where a half is missing, by what was asked for
    "encode": "this tiny VAE has only its decoder: load its encoder file too to encode a picture",
    "decode": "this tiny VAE has only its encoder: load its decoder file too to decode a latent",
}


class TinyAutoencoder(VAENetwork):
    """Both stacks; `encoder=False` or `decoder=False` leaves one out. `operations` gives Conv2d and GroupNorm."""

    kind, title = "tiny", "tiny autoencoder"
    steps = (Block,)
    config: TinyConfig
    vae_scale: Tensor
    vae_shift: Tensor

    def __init__(
        self,
        config: TinyConfig,
        operations: Operations | ModuleType = nn,
        device: Device = None,
        dtype: torch.dtype | None = None,
        *,
        encoder: bool = True,
        decoder: bool = True,
    ):
        super().__init__(config)
        layers = Layers(operations, device, dtype)
        self.taesd_encoder = _encoder(config, layers) if encoder else None
        self.taesd_decoder = _decoder(config, layers) if decoder else None
        self.register_buffer("vae_scale", torch.tensor(config.scale, device=device))
        self.register_buffer("vae_shift", torch.tensor(config.shift, device=device))

    def half_for(self, way: str) -> nn.Sequential:
        half = self.taesd_encoder if way == "encode" else self.taesd_decoder
        if half is None:
            raise ValueError(_WITHOUT[way])
        return half

    def into_encoder(self, pixels: Tensor) -> Tensor:
        """The stack takes 0..1. [B, 3, H, W] -> the same"""
        return as_computed(pixels * 0.5 + 0.5)

    def as_encoding(self, latent: Tensor) -> Tensor:
        """From model space to the raw latent, folded. [B, stack_latent, ..] -> [B, C, h, w]"""
        return fold(latent / self.vae_scale.to(latent) + self.vae_shift.to(latent), self.config.patch).contiguous()

    def into_decoder(self, latent: Tensor) -> Tensor:
        """From the raw latent, unfolded, to model space. [B, C, h, w] -> [B, stack_latent, ..]"""
        latent = unfold(latent, self.config.patch)
        return as_computed((latent - self.vae_shift.to(latent)) * self.vae_scale.to(latent))

    def as_pixels(self, picture: Tensor) -> Tensor:
        """From 0..1 to -1..1. [B, 3, H, W] -> the same"""
        return (picture - 0.5) * 2

    def encoder_shape(self, size: Size) -> tuple[int, int, int]:
        stride = self.config.factor // self.config.patch
        return self.config.stack_latent, size[0] // stride, size[1] // stride

    def sweep_encode(self, sweeps: Sweeps, pixels: Activations, into: Waiting) -> None:
        sweep_stack(sweeps, self.half_for("encode"), pixels, into)

    def sweep_decode(self, sweeps: Sweeps, latent: Activations, into: Waiting) -> None:
        sweep_stack(sweeps, self.half_for("decode"), latent, into)
