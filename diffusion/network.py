"""The small diffusion model: a U-Net that tells, of a noisy latent and a text, the way from the picture to the noise.

The shape is that of Ho et al. (arXiv 2006.11239) with text as in Rombach et al. (arXiv 2112.10752), at a thousandth of
the size; skips are added, not joined. Two more channels tell each cell where it is, so that "at the top left" can be
learned by convolutions.
"""

import math
from types import ModuleType
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import DiffusionConfig, DiffusionError, LatentScale
from .layers import Attention, Device, Layers, Operations, ResidualBlock, TransformerBlock

_ENDS = ("conv2", "to_out", "fc2", "conv_out", "told")  # the layers with which a branch or the network ends
_SLOWEST = 1000.0  # ratio between the fastest and the slowest of the waves that tell the noise level


class Stage(nn.Module):
    """A residual block, and attention where the level has it."""

    def __init__(self, width: int, attends: bool, config: DiffusionConfig, layers: Layers):
        super().__init__()
        self.block = ResidualBlock(width, config.time, layers)
        self.attention = TransformerBlock(width, config.text, layers) if attends else None

    def forward(self, x: Tensor, time: Tensor, text: Tensor) -> Tensor:
        x = self.block(x, time)
        return x if self.attention is None else self.attention(x, text)


class Gist(nn.Module):
    """One question that is put to the text, whatever the picture: its answer goes to every block.

    [B, T, text] -> [B, time]
    """

    def __init__(self, config: DiffusionConfig, layers: Layers):
        super().__init__()
        self.question = nn.Parameter(torch.zeros(1, 1, config.text, device=layers.device, dtype=layers.dtype))
        self.attention = Attention(config.text, config.text, layers, head=config.text)
        self.out = layers.linear(config.text, config.time)

    def forward(self, text: Tensor) -> Tensor:
        question = self.question.to(device=text.device, dtype=text.dtype).expand(len(text), -1, -1)
        return self.out(self.attention(question, text)[:, 0])


class Denoiser(nn.Module):
    """noisy latent, noise level, text -> velocity, that is noise - latent (flow matching, arXiv 2210.02747).

    `latents` and `noise_shift`, the shift of the noise levels, tell how it was trained, and so how to sample it. The
    level is 0 (picture) .. 1 (noise). [B, C, h, w], [B], [B, T, text] -> [B, C, h, w]; h and w are multiples of
    `config.factor`.
    """

    def __init__(
        self,
        config: DiffusionConfig,
        *,
        operations: Operations | ModuleType = nn,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        layers, widths = Layers(operations, device, dtype), config.widths
        self.config, self.dtype = config, dtype or torch.float32
        for name, start in (("latent_scale", 1.0), ("latent_shift", 0.0)):  # so that a file has all that its use needs
            self.register_buffer(name, torch.full((config.latent,), start, device=device, dtype=torch.float32))
        self.register_buffer("noise_shift", torch.ones((), device=device, dtype=torch.float32))
        self.time1, self.time2 = layers.linear(config.time // 4, config.time), layers.linear(config.time, config.time)
        self.gist = Gist(config, layers)
        self.conv_in = layers.conv(config.latent + 2, widths[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        for level in range(len(widths)):
            self.down.append(_stages(level, config, layers))
            self.up.append(_stages(level, config, layers))
        for narrow, wide in zip(widths, widths[1:]):
            self.shrink.append(layers.conv(narrow, wide, stride=2))
            self.grow.append(layers.conv(wide, narrow))
        self.norm_out, self.conv_out = layers.group_norm(widths[0]), layers.conv(widths[0], config.latent)

    @property
    def shift(self) -> float:
        """The shift of the noise levels."""
        return float(self.get_buffer("noise_shift"))

    @property
    def latents(self) -> LatentScale:
        """How the latents of this model relate to the raw ones of its autoencoder."""
        return LatentScale(self.get_buffer("latent_scale"), self.get_buffer("latent_shift"))

    def forward(self, noisy: Tensor, level: Tensor, text: Tensor) -> Tensor:
        self._check(noisy, text)
        told = self.time2(functional.silu(self.time1(waves(level, self.config.time // 4).to(noisy.dtype))))
        told = functional.silu(told + self.gist(text))  # [B, time]
        x = self.conv_in(torch.cat([noisy, positions(noisy)], dim=1))
        skips = []
        for number, stages in enumerate(self.down):
            for stage in cast(nn.ModuleList, stages):
                x = stage(x, told, text)
                skips.append(x)
            if number < len(self.shrink):
                x = self.shrink[number](x)
        for number in reversed(range(len(self.up))):
            for stage in cast(nn.ModuleList, self.up[number]):
                x = stage(x + skips.pop(), told, text)
            if number:
                x = self.grow[number - 1](functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv_out(functional.silu(self.norm_out(x)))

    def _check(self, noisy: Tensor, text: Tensor) -> None:
        config = self.config
        whole = noisy.ndim == 4 and not any(side % config.factor for side in noisy.shape[2:])
        if not whole or noisy.shape[1] != config.latent:
            raise DiffusionError(
                f"expected a latent of {config.latent} channels whose sides are multiples of {config.factor} cells, "
                f"but got {list(noisy.shape)}: make an empty latent of another size"
            )
        if text.ndim != 3 or text.shape[2] != config.text:
            raise DiffusionError(
                f"expected text states of width {config.text}, but got {list(text.shape)}: encode the prompt with the "
                "text encoder that belongs to this model"
            )


def _stages(level: int, config: DiffusionConfig, layers: Layers) -> nn.ModuleList:
    width, attends = config.widths[level], level >= config.attention
    return nn.ModuleList(Stage(width, attends, config, layers) for _ in range(config.blocks[level]))


def waves(level: Tensor, width: int) -> Tensor:
    """The noise level as sines and cosines of ever slower waves, in float32. [B] in 0..1 -> [B, width]"""
    place = torch.arange(width // 2, device=level.device, dtype=torch.float32) / (width // 2)
    angle = level.float()[:, None] * _SLOWEST * torch.exp(place * -math.log(_SLOWEST))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def positions(like: Tensor) -> Tensor:
    """Where each cell is, -1..1 across and down. [B, C, h, w] -> [B, 2, h, w]"""
    height, width = like.shape[2:]
    down, across = (
        ((torch.arange(cells, device=like.device, dtype=torch.float32) + 0.5) / cells * 2 - 1).to(like.dtype)
        for cells in (height, width)
    )
    grid = torch.stack([across[None].expand(height, -1), down[:, None].expand(-1, width)])
    return grid[None].expand(len(like), -1, -1, -1)


def initialise_(model: Denoiser, seed: int) -> Denoiser:
    """Set the weights in place: torch's own random ones, and zero where a branch or the network ends.

    So every branch starts as nothing, and the network as the answer 0. The caller's random state is left alone.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.reset_parameters()
        for name, module in model.named_modules():
            if name.endswith(_ENDS) and isinstance(module, (nn.Linear, nn.Conv2d)):
                module.weight.zero_()
                if module.bias is not None:
                    module.bias.zero_()
        model.gist.question.normal_()
    return model
