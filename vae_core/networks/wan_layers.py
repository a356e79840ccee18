"""The layers of Wan's VAE, which meets a video frame by frame: what they need of the frames before is in a `Past`.

From Wan-Video/Wan2.1 (wan/modules/vae.py) and Wan2.2 (wan/modules/vae2_2.py); attribute names are their tensor names. A
frame is [B, C, H, W]. A convolution over time sees the frame and the two before it, so it is one over their channels
side by side, and its layers are those of a picture.
"""

from collections.abc import Hashable, Iterator
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..layers import Layers, activated, added, attended, in_rows

_KEPT = 2  # frames before the present one that a convolution over time sees


class Past:
    """The last inputs of the layers of one video, or of one tile of it; a single picture keeps none."""

    def __init__(self, keeps: bool):
        self.keeps = keeps
        self.frames: dict[nn.Module, list[Tensor]] = {}

    def of(self, layer: nn.Module) -> list[Tensor] | None:
        """The inputs that a layer remembers, the oldest first; None before its first."""
        return self.frames.get(layer)

    def keep(self, layer: nn.Module, frames: list[Tensor]) -> None:
        """Make these inputs what a layer remembers; nobody may write into them."""
        if self.keeps:
            self.frames[layer] = frames


@lru_cache(maxsize=8)
def _causal(convolution: type[nn.Conv3d]) -> type[nn.Conv3d]:
    """A subclass of the namespace's own 3-D convolution, which takes the last frames side by side and gives one frame.

    `_conv_forward` is where torch's layer, and a host's, hands over the weight it has just cast. Frames before the
    first are zeros: their part of the weight is left out. [B, frames * C, H, W] -> [B, D, H, W]
    """

    def _conv_forward(self: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None, autopad: None = None) -> Tensor:
        latest = weight[:, :, -(x.shape[1] // weight.shape[1]) :]  # [D, C, frames, 3, 3]
        side = weight.shape[-1] // 2
        return functional.conv2d(x, latest.transpose(1, 2).flatten(1, 2), bias, padding=side)

    return type("CausalConv3d", (convolution,), {"_conv_forward": _conv_forward})


def causal_conv(layers: Layers, inner: int, outer: int, size: tuple[int, int, int], stride: int = 1) -> nn.Conv3d:
    """A causal convolution of so many frames, rows and columns that keeps the picture's size."""
    layer = _causal(cast(Hashable, layers.operations.Conv3d))
    return layer(inner, outer, size, stride=(stride, 1, 1), device=layers.device, dtype=layers.dtype)


def convolved(conv: nn.Conv3d, x: Tensor, past: Past) -> Tensor:
    """The convolution of a frame and those before it, of which it keeps the last. [B, C, H, W] -> [B, D, H, W]"""
    frames = [*(past.of(conv) or []), x]
    past.keep(conv, frames[-_KEPT:])
    return conv(torch.cat(frames, 1) if len(frames) > 1 else x)


class ChannelNorm(nn.Module):
    """Each cell's channels divided by their root mean square, times `gamma`. [B, C, H, W] -> the same shape, new"""

    def __init__(self, channels: int, layers: Layers, *, frames: bool = True):
        super().__init__()
        shape = (channels, 1, 1, 1) if frames else (channels, 1, 1)
        self.gamma = nn.Parameter(torch.ones(shape, device=layers.device, dtype=layers.dtype))

    def forward(self, x: Tensor) -> Tensor:
        normed = functional.normalize(x, dim=1)
        gamma = self.gamma.to(x).view(-1, 1, 1) * x.shape[1] ** 0.5
        return normed * gamma if torch.is_grad_enabled() else normed.mul_(gamma)


def _norm_and_conv(inner: int, outer: int, layers: Layers) -> tuple[nn.Module, nn.Module, nn.Module]:
    return ChannelNorm(inner, layers), nn.SiLU(), causal_conv(layers, inner, outer, (3, 3, 3))


def _conv(layer: nn.Module) -> nn.Conv3d:
    """The layer at a place whose kind is known."""
    return cast(nn.Conv3d, layer)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); a 1x1 convolution on the shortcut where the width changes.

    [B, inner, H, W] -> [B, outer, H, W]
    """

    MARGIN = 2  # cells round a result that it depends on

    def __init__(self, inner: int, outer: int, layers: Layers):
        super().__init__()
        first, second = _norm_and_conv(inner, outer, layers), _norm_and_conv(outer, outer, layers)
        self.residual = nn.Sequential(*first, *second[:2], nn.Identity(), second[2])  # published: dropout
        self.shortcut = causal_conv(layers, inner, outer, (1, 1, 1)) if inner != outer else None
        self.inner, self.outer = inner, outer

    def forward(self, x: Tensor, past: Past) -> Tensor:
        h = convolved(_conv(self.residual[2]), activated(self.residual[0](x)), past)
        h = activated(self.residual[3](h))  # in a line of its own: what it was made of is given up
        h = convolved(_conv(self.residual[6]), h, past)
        return added(h, x if self.shortcut is None else self.shortcut(x))


class Head(nn.ModuleList):
    """conv(silu(norm(x))): the last layers of a half. [B, inner, H, W] -> [B, outer, H, W]"""

    def __init__(self, inner: int, outer: int, layers: Layers):
        super().__init__(_norm_and_conv(inner, outer, layers))
        self.outer = outer

    def forward(self, x: Tensor, past: Past) -> Tensor:
        return convolved(_conv(self[2]), activated(self[0](x)), past)


class Attention(nn.Module):
    """x + attention over all cells of a frame, one head as wide as the channels. [B, C, H, W] -> [B, C, H, W]"""

    def __init__(self, channels: int, layers: Layers):
        super().__init__()
        self.norm = ChannelNorm(channels, layers, frames=False)
        self.to_qkv = layers.conv(channels, 3 * channels, 1)
        self.proj = layers.conv(channels, channels, 1)

    def forward(self, x: Tensor, scores: int | None = None) -> Tensor:
        queries, keys, values = (in_rows(part) for part in self.to_qkv(self.norm(x)).chunk(3, 1))
        found = attended(queries, keys, values, scores).squeeze(1).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return added(self.proj(found if x.device.type == "cpu" else found.contiguous()), x)


class Middle(nn.ModuleList):
    """block, attention, block at latent size. [B, C, h, w] -> [B, C, h, w]"""

    def __init__(self, channels: int, layers: Layers):
        blocks = (ResidualBlock(channels, channels, layers) for _ in range(2))
        super().__init__((next(blocks), Attention(channels, layers), next(blocks)))

    def forward(self, x: Tensor, past: Past, scores: int | None = None) -> Tensor:
        return self[2](self[1](self[0](x, past), scores), past)


class Down(nn.Module):
    """Half the size, and with `temporal` every second frame after the first, made of three.

    [B, C, H, W] -> none or one of [B, C, H // 2, W // 2]
    """

    def __init__(self, channels: int, temporal: bool, layers: Layers):
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), layers.conv(channels, channels, stride=2, padding=0))
        self.time_conv = causal_conv(layers, channels, channels, (3, 1, 1), stride=2) if temporal else None
        self.outer = channels

    def forward(self, x: Tensor, past: Past) -> Iterator[Tensor]:
        x = self.resample[1](functional.pad(x, (0, 1, 0, 1)))
        if self.time_conv is None:
            yield x
            return
        frames = [*(past.of(self.time_conv) or []), x]
        past.keep(self.time_conv, frames[-1:] if len(frames) == 3 else frames)
        if len(frames) != 2:
            yield x if len(frames) == 1 else self.time_conv(torch.cat(frames, 1))


class Up(nn.Module):
    """Twice the size, and with `temporal` two frames for each after the first.

    [B, C, H, W] -> one or two of [B, outer, 2H, 2W]
    """

    def __init__(self, channels: int, outer: int, temporal: bool, layers: Layers):
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), layers.up_conv(channels, outer))
        self.time_conv = causal_conv(layers, channels, 2 * channels, (3, 1, 1)) if temporal else None
        self.outer = outer

    def forward(self, x: Tensor, past: Past) -> Iterator[Tensor]:
        if self.time_conv is None:
            yield self.resample[1](x)
        elif past.of(self.time_conv) is None:  # the first frame stays one, and is none of those that the next ones see
            past.keep(self.time_conv, [])
            yield self.resample[1](x)
        else:
            for half in convolved(self.time_conv, x, past).chunk(2, 1):
                yield self.resample[1](half)


class AveragedDown(nn.Module):
    """Wan 2.2's way past a stage of the encoder: cells and frames into channels, then means over groups of channels.

    [B, inner, H, W] -> none or one of [B, outer, H / 2, W / 2], without `halves` [B, outer, H, W]
    """

    def __init__(self, outer: int, temporal: bool, halves: bool):
        super().__init__()
        self.outer, self.temporal, self.side = outer, temporal, 2 if halves else 1

    def forward(self, x: Tensor, past: Past) -> Iterator[Tensor]:
        if self.temporal:
            before = past.of(self)
            if before == []:
                past.keep(self, [x])
                return
            past.keep(self, [])
            x = torch.stack((torch.zeros_like(x) if before is None else before[0], x), 2).flatten(1, 2)
        x = functional.pixel_unshuffle(x, self.side)
        yield x.unflatten(1, (self.outer, -1)).mean(2)


class RepeatedUp(nn.Module):
    """Wan 2.2's way past a stage of the decoder: channels, repeated, become cells and frames.

    [B, inner, H, W] -> one or two of [B, outer, 2H, 2W]
    """

    def __init__(self, outer: int, temporal: bool):
        super().__init__()
        self.outer, self.frames = outer, 2 if temporal else 1

    def forward(self, x: Tensor, past: Past) -> Iterator[Tensor]:
        first = past.of(self) is None
        past.keep(self, [])
        cells = self.outer * self.frames * 4
        wide = x.repeat_interleave(cells // x.shape[1], 1).unflatten(1, (self.outer, self.frames, 4))
        for frame in range(self.frames - 1 if first else 0, self.frames):
            yield functional.pixel_shuffle(wide[:, :, frame].flatten(1, 2), 2)
