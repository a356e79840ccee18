"""The four parts an AutoencoderKL is made of: residual block, attention, down, up.

From CompVis/latent-diffusion, ldm/modules/diffusionmodules/model.py; attribute names are its tensor names. Every layer
comes from the `operations` namespace (Conv2d, GroupNorm) and its weight is used only through that layer's forward: a
host may cast, patch or move it there.
"""

from collections.abc import Hashable
from functools import lru_cache
from types import ModuleType
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import NORM_EPS, NORM_GROUPS
from .doubling import CARDS, doubled
from .norms import exactly_normed

Device = torch.device | str | None
SCORES = 1 << 26  # attention scores computed at once: they cost memory on some devices, and time on all
# on a card whose attention stores them, in float32 and twice: no more than the widest layers need at 1024 px
CARD_SCORES = 1 << 27
CARD_TILE_SCORES = 1 << 24  # the same by tiles, where there is less memory
FUSED_SCORES = 1 << 32  # on a card whose attention stores none: a second's work, for Windows stops a kernel after two


def activated(x: Tensor) -> Tensor:
    """Apply silu, overwriting x where no gradient is wanted: no other tensor may use its memory. Any shape."""
    return functional.silu(x, inplace=not torch.is_grad_enabled())


def as_computed(x: Tensor) -> Tensor:
    """Lay out the channels last in memory on a processor, whose convolutions are faster so, and first elsewhere.

    Hosts give pictures with the channels last, of which a card's group norm would make a copy each time.
    [B, C, H, W] -> [B, C, H, W]
    """
    return x.contiguous(memory_format=torch.channels_last if x.device.type == "cpu" else torch.contiguous_format)


class Operations(Protocol):
    """A namespace of layers: torch.nn, or a host's own, whose layers cast, patch or move their weights."""

    Conv2d: type[nn.Conv2d]
    Conv3d: type[nn.Conv3d]
    GroupNorm: type[nn.GroupNorm]


class Layers:
    """Makes convolutions and norms of one `operations` namespace, device and dtype."""

    def __init__(self, operations: Operations | ModuleType, device: Device, dtype: torch.dtype | None):
        self.operations, self.device, self.dtype = operations, device, dtype

    def conv(
        self, inner: int, outer: int, size: int = 3, stride: int = 1, padding: int | None = None, bias: bool = True
    ) -> nn.Conv2d:
        """A convolution that keeps the size unless told otherwise. [B, inner, H, W] -> [B, outer, H', W']"""
        padding = size // 2 if padding is None else padding
        return self.operations.Conv2d(
            inner, outer, size, stride=stride, padding=padding, bias=bias, device=self.device, dtype=self.dtype
        )

    def up_conv(self, inner: int, outer: int, bias: bool = True) -> nn.Conv2d:
        """Nearest-neighbour doubling and a 3x3 convolution in one. [B, inner, H, W] -> [B, outer, 2H, 2W]"""
        layer = _doubling(cast(Hashable, self.operations.Conv2d))
        return layer(inner, outer, 3, padding=1, bias=bias, device=self.device, dtype=self.dtype)

    def norm(self, channels: int, groups: int = NORM_GROUPS, eps: float = NORM_EPS) -> nn.GroupNorm:
        """A group norm with a weight and a bias per channel. [B, C, H, W] -> [B, C, H, W]"""
        return self.operations.GroupNorm(groups, channels, eps=eps, affine=True, device=self.device, dtype=self.dtype)


@lru_cache(maxsize=8)
def _doubling(convolution: type[nn.Conv2d]) -> type[nn.Conv2d]:
    """A subclass of the namespace's own convolution, which applies its 3x3 weight to the input doubled in size.

    `_conv_forward` is where torch's layer, and a host's, hands over the weight it has just cast: so a host's casts and
    patches stay as they are.
    """

    def _conv_forward(self: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return doubled(x, weight, bias)

    return type("DoublingConv2d", (convolution,), {"doubles": True, "_conv_forward": _conv_forward})


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
        h = self.first(exactly_normed(self.norm1, x))
        h = exactly_normed(self.norm2, h)
        return added(self.second(h), self.shortcut(x))

    def first(self, normed: Tensor) -> Tensor:
        """The first half, of the normalised input, which it may overwrite. [B, inner, H, W] -> [B, outer, H, W]"""
        return self.conv1(activated(normed))

    def second(self, normed: Tensor) -> Tensor:
        """The second half, of the first half's normalised result, likewise. [B, outer, H, W] -> [B, outer, H, W]"""
        return self.conv2(activated(normed))

    def shortcut(self, x: Tensor) -> Tensor:
        """The skip connection, added to the second half. [B, inner, H, W] -> [B, outer, H, W]"""
        return self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x


def added(x: Tensor, y: Tensor) -> Tensor:
    """x + y, overwriting x where no gradient is wanted: no other tensor may use its memory. Any shape."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


class Attention(nn.Module):
    """x + attention over all cells, one head as wide as the channels. [B, C, H, W] -> [B, C, H, W]"""

    def __init__(self, channels: int, layers: Layers):
        super().__init__()
        self.norm = layers.norm(channels)
        self.q, self.k, self.v, self.proj_out = (layers.conv(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = exactly_normed(self.norm, x)
        return added(self.looked_up(h, in_rows(self.k(h)), in_rows(self.v(h))), x)

    def looked_up(self, normed: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from the cells of `normed` to keys and values. [B, C, H, W], 2 x [B, 1, N, C] -> [B, C, H, W]

        A part of the queries at a time, so that the scores of all pairs of cells never need memory at once.
        """
        found = attended(in_rows(self.q(normed)), keys, values)
        found = found.squeeze(1).unflatten(1, normed.shape[2:]).permute(0, 3, 1, 2)  # channels last in memory
        return self.proj_out(found if normed.device.type == "cpu" else found.contiguous())


def attended(queries: Tensor, keys: Tensor, values: Tensor, scores: int | None = None) -> Tensor:
    """Attend with one head, so many scores at once (None: as suits the device). 3 x [B, 1, N, C] -> [B, 1, N, C]"""
    scores = scores or scores_at_once(keys.shape[3], keys.dtype, keys.device)
    parts = queries.split(max(1, scores // (len(keys) * keys.shape[2])), dim=2)
    results = [functional.scaled_dot_product_attention(part, keys, values) for part in parts]
    return results[0] if len(results) == 1 else torch.cat(results, 2)


def is_fused(width: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether torch would choose an attention kernel that stores no scores, for one head of that width.

    Splitting the queries would leave most of such a card idle.
    """
    choose = getattr(torch, "_fused_sdp_choice", None)  # has no public name; 0 is the attention that stores them
    if choose is None or device.type not in CARDS:
        return False
    rows = torch.empty((1, 1, 64, width), dtype=dtype, device=device)
    return choose(rows, rows, rows) != 0


def scores_at_once(width: int, dtype: torch.dtype, device: torch.device, *, by_tiles: bool = False) -> int:
    """The attention scores to compute at once on a device, for one head of that width."""
    if device.type not in CARDS:
        return SCORES
    if is_fused(width, dtype, device):
        return FUSED_SCORES
    return CARD_TILE_SCORES if by_tiles else CARD_SCORES


def in_rows(x: Tensor) -> Tensor:
    """One row of channels for each cell. [B, C, H, W] -> [B, 1, H*W, C]"""
    return x.flatten(2).transpose(1, 2).unsqueeze(1).contiguous()


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
        self.conv = layers.up_conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


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

    downsample: Down  # there with resample "downsample"
    upsample: Up  # and with "upsample"

    def __init__(self, inner: int, outer: int, count: int, resample: str | None, layers: Layers):
        super().__init__()
        self.block = nn.ModuleList(ResidualBlock(outer if i else inner, outer, layers) for i in range(count))
        if resample == "downsample":
            self.downsample = Down(outer, layers)
        elif resample == "upsample":
            self.upsample = Up(outer, layers)
        self.resample = resample

    @property
    def blocks(self) -> list[ResidualBlock]:
        """The residual blocks in order."""
        return cast(list[ResidualBlock], list(self.block))

    @property
    def steps(self) -> list[nn.Module]:
        """Its modules in order. A caller that runs them one by one holds only the activations of the last."""
        return [*self.block, getattr(self, self.resample)] if self.resample else list(self.block)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x
