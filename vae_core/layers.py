"""The four parts an AutoencoderKL is made of: residual block, attention, down, up.

From CompVis/latent-diffusion, ldm/modules/diffusionmodules/model.py; attribute names are its tensor names. Every layer
comes from the `operations` namespace (Conv2d, GroupNorm) and its weight is used only through that layer's forward.
"""

from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import NORM_EPS, NORM_GROUPS

Device = torch.device | str | None


class Layers:
    """Makes convolutions and norms of one `operations` namespace, device and dtype."""

    def __init__(self, operations: ModuleType | type, device: Device, dtype: torch.dtype | None):
        self.operations, self.device, self.dtype = operations, device, dtype

    def conv(self, inner: int, outer: int, size: int = 3, stride: int = 1, padding: int | None = None,
             bias: bool = True) -> nn.Module:
        """A convolution that keeps the size unless told otherwise. [B, inner, H, W] -> [B, outer, H', W']"""
        padding = size // 2 if padding is None else padding
        return self.operations.Conv2d(inner, outer, size, stride=stride, padding=padding, bias=bias,
                                      device=self.device, dtype=self.dtype)

    def norm(self, channels: int, groups: int = NORM_GROUPS, eps: float = NORM_EPS) -> nn.Module:
        """A group norm with a weight and a bias per channel. [B, C, H, W] -> [B, C, H, W]"""
        return self.operations.GroupNorm(groups, channels, eps=eps, affine=True, device=self.device, dtype=self.dtype)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); a 1x1 convolution on the shortcut where the width changes.

    [B, inner, H, W] -> [B, outer, H, W]
    """

    def __init__(self, inner: int, outer: int, layers: Layers):
        super().__init__()
        self.norm1, self.conv1 = layers.norm(inner), layers.conv(inner, outer)
        self.norm2, self.conv2 = layers.norm(outer), layers.conv(outer, outer)
        if inner != outer:
            self.nin_shortcut = layers.conv(inner, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    """x + attention over all cells, one head as wide as the channels. [B, C, H, W] -> [B, C, H, W]"""

    def __init__(self, channels: int, layers: Layers):
        super().__init__()
        self.norm = layers.norm(channels)
        self.q, self.k, self.v, self.proj_out = (layers.conv(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2).transpose(1, 2).unsqueeze(1).contiguous()        # [B, 1, H*W, C]
                   for conv in (self.q, self.k, self.v))
        h = functional.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(h.squeeze(1).transpose(1, 2).reshape(x.shape))


class Down(nn.Module):
    """Half the size; one row and one column of zeros are put on the right and the bottom only.

    [B, C, H, W] -> [B, C, H // 2, W // 2]
    """

    def __init__(self, channels: int, layers: Layers):
        super().__init__()
        self.conv = layers.conv(channels, channels, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """Twice the size: each cell four times, then a convolution. [B, C, H, W] -> [B, C, 2H, 2W]"""

    def __init__(self, channels: int, layers: Layers):
        super().__init__()
        self.conv = layers.conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class Middle(nn.Module):
    """block, attention, block at latent size. [B, C, h, w] -> [B, C, h, w]"""

    def __init__(self, channels: int, layers: Layers):
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, layers)
        self.attn_1 = Attention(channels, layers)
        self.block_2 = ResidualBlock(channels, channels, layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """`count` residual blocks at one size, then the change of size: "downsample", "upsample" or none (None).

    [B, inner, H, W] -> [B, outer, H', W']
    """

    def __init__(self, inner: int, outer: int, count: int, resample: str | None, layers: Layers):
        super().__init__()
        self.block = nn.ModuleList(ResidualBlock(outer if i else inner, outer, layers) for i in range(count))
        if resample == "downsample":
            self.downsample = Down(outer, layers)
        elif resample == "upsample":
            self.upsample = Up(outer, layers)
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return getattr(self, self.resample)(x) if self.resample else x
