"""The two halves of AutoencoderKL, a stage of each after the other: to latent size, the middle, and the way out.

The network of CompVis/latent-diffusion (ldm/modules/diffusionmodules/model.py, Rombach et al. 2022), under its own
tensor names.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ..config import VAEConfig
from ..layers import Device, Layers, Level, Middle, activated, as_computed
from ..norms import exactly_normed


class Encoder(nn.Module):
    """pixels -> moments before the quant convolution. [B, 3, H, W] -> [B, 2C, H / factor, W / factor]"""

    def __init__(self, config: VAEConfig, layers: Layers):
        super().__init__()
        widths, last = (config.channels, *config.widths), len(config.widths) - 1
        self.conv_in = layers.conv(config.image_channels, config.channels)
        self.down = nn.ModuleList(
            Level(widths[i], widths[i + 1], config.blocks, None if i == last else "downsample", layers)
            for i in range(last + 1)
        )
        self.mid = Middle(widths[-1], layers)
        self.norm_out = layers.norm(widths[-1])
        self.conv_out = layers.conv(widths[-1], 2 * config.stack_latent)

    @property
    def levels(self) -> list[Level]:
        """The levels, the picture's size first."""
        return cast(list[Level], list(self.down))

    def to_latent_size(self, pixels: Tensor) -> Tensor:
        """The input convolution and the way down. [B, 3, H, W] -> [B, width, h, w]"""
        h = self.conv_in(as_computed(pixels))
        for step in (step for level in self.levels for step in level.steps):
            h = step(h)
        return h

    def to_moments(self, h: Tensor) -> Tensor:
        """The last norm and convolution. [B, width, h, w] -> [B, 2C, h, w]"""
        return self.conv_out(activated(exactly_normed(self.norm_out, h)))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.to_moments(self.mid(self.to_latent_size(pixels)))


class Decoder(nn.Module):
    """latent after the post-quant convolution -> pixels. [B, C, h, w] -> [B, 3, h * factor, w * factor]

    `up` is numbered by size as in the encoder, the picture's size first, and walked from its end.
    """

    def __init__(self, config: VAEConfig, layers: Layers):
        super().__init__()
        widths = (*config.decoder_widths, config.decoder_widths[-1])
        self.conv_in = layers.conv(config.stack_latent, widths[-1])
        self.mid = Middle(widths[-1], layers)
        self.up = nn.ModuleList(
            Level(widths[i + 1], widths[i], config.blocks + 1, "upsample" if i else None, layers)
            for i in range(len(config.decoder_widths))
        )
        self.norm_out = layers.norm(widths[0])
        self.conv_out = layers.conv(widths[0], config.image_channels)

    @property
    def levels(self) -> list[Level]:
        """The levels, the picture's size first: the way up starts at the last."""
        return cast(list[Level], list(self.up))

    def at_latent_size(self, z: Tensor) -> Tensor:
        """The input convolution and the middle. [B, C, h, w] -> [B, width, h, w]"""
        return self.mid(self.conv_in(as_computed(z)))

    def to_picture_size(self, h: Tensor) -> Tensor:
        """The way up. [B, width, h, w] -> [B, channels, H, W]"""
        for step in (step for level in reversed(self.levels) for step in level.steps):
            h = step(h)
        return h

    def to_pixels(self, h: Tensor) -> Tensor:
        """The last norm and convolution. [B, channels, H, W] -> [B, 3, H, W]"""
        return self.conv_out(activated(exactly_normed(self.norm_out, h)))

    def forward(self, z: Tensor) -> Tensor:
        return self.to_pixels(self.to_picture_size(self.at_latent_size(z)))


class Statistics(nn.Module):
    """The latent's mean and variance, measured in training: FLUX.2's batch norm without its arithmetic.

    From black-forest-labs/flux2, autoencoder.py; the buffers' names are torch's.
    """

    EPS = 1e-4
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, device: Device):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels, device=device))
        self.register_buffer("running_var", torch.ones(channels, device=device))
        self.register_buffer("num_batches_tracked", torch.tensor(0, device=device))

    def of(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation where `like` is. -> 2 x [C, 1, 1]"""
        mean, variance = (t.to(like)[:, None, None] for t in (self.running_mean, self.running_var))
        return mean, (variance + self.EPS).sqrt()
