"""The four parts an AutoencoderKL is made of: residual block, attention, down, up.

From CompVis/latent-diffusion, ldm/modules/diffusionmodules/model.py; attribute names are its tensor names. Every layer
comes from the `operations` namespace (Conv2d, GroupNorm) and its weight is used only through that layer's forward: a
host may cast, patch or move it there.
"""

from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import NORM_EPS, NORM_GROUPS
from .norms import exactly_normed

Device = torch.device | str | None
SCORES = 1 << 26  # attention scores made at once: memory on some devices, and on all of them time without a pause
CARD_SCORES = 1 << 27  # on a card whose attention holds them, in float32 and twice: no more than the widest layers need
# at 1024 px
CARD_TILE_SCORES = 1 << 24  # and by tiles, where there is less memory
FUSED_SCORES = 1 << 32  # where it does without them: a second or so, for Windows stops a kernel after two
CARDS = frozenset({"cuda", "xpu"})  # where kernels are many times quicker to run than to start


def activated(x: Tensor) -> Tensor:
    """silu of a tensor that nobody else holds: in its own memory where no gradient is wanted. Any shape -> the same."""
    return functional.silu(x, inplace=not torch.is_grad_enabled())


def as_computed(x: Tensor) -> Tensor:
    """With the channels last in memory on a processor, where convolutions are faster so, and nowhere else: pictures
    come that way from a host, and a card's group norm would copy each of its inputs. [B, C, H, W] -> the same
    """
    return x.contiguous(memory_format=torch.channels_last if x.device.type == "cpu" else torch.contiguous_format)


class Layers:
    """Makes convolutions and norms of one `operations` namespace, device and dtype."""

    def __init__(self, operations: ModuleType | type, device: Device, dtype: torch.dtype | None):
        self.operations, self.device, self.dtype = operations, device, dtype

    def conv(
        self, inner: int, outer: int, size: int = 3, stride: int = 1, padding: int | None = None, bias: bool = True
    ) -> nn.Module:
        """A convolution that keeps the size unless told otherwise. [B, inner, H, W] -> [B, outer, H', W']"""
        padding = size // 2 if padding is None else padding
        return self.operations.Conv2d(
            inner, outer, size, stride=stride, padding=padding, bias=bias, device=self.device, dtype=self.dtype
        )

    def up_conv(self, inner: int, outer: int, bias: bool = True) -> nn.Module:
        """Nearest-neighbour doubling and a 3x3 convolution in one. [B, inner, H, W] -> [B, outer, 2H, 2W]"""
        return _doubling(self.operations.Conv2d)(
            inner, outer, 3, padding=1, bias=bias, device=self.device, dtype=self.dtype
        )

    def norm(self, channels: int, groups: int = NORM_GROUPS, eps: float = NORM_EPS) -> nn.Module:
        """A group norm with a weight and a bias per channel. [B, C, H, W] -> [B, C, H, W]"""
        return self.operations.GroupNorm(groups, channels, eps=eps, affine=True, device=self.device, dtype=self.dtype)


@lru_cache(maxsize=8)
def _doubling(convolution: type[nn.Conv2d]) -> type[nn.Conv2d]:
    """The namespace's own convolution, its 3x3 weight applied to the input doubled in size.

    `_conv_forward` is where torch's layer, and a host's, hands over the weight it has just cast.
    """

    class DoublingConv2d(convolution):
        doubles = True

        def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return doubled(x, weight, bias)

    return DoublingConv2d


def doubled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """conv2d(interpolate(x, 2, "nearest"), weight, bias, padding=1), as four 2x2 convolutions before the doubling.

    A pixel of the doubled input is one of only 2x2 cells below a 3x3 kernel, so kernel taps that meet the same cell
    are summed (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"): 16 taps for the
    four pixels of a cell instead of 36. [B, C, H, W], [D, C, 3, 3] and [D] -> [B, D, 2H, 2W]
    """
    height, width = x.shape[2:]
    if x.device.type in CARDS and not torch.is_grad_enabled():
        return doubled_at_once(x, weight, bias)
    kernels = _summed(weight)
    parts = (
        functional.conv2d(x, kernel, bias, padding=1)[:, :, row : row + height, column : column + width]
        for (row, column), kernel in kernels
    )
    if torch.is_grad_enabled():
        both = torch.stack(tuple(parts), 2).unflatten(2, (2, 2))  # [B, D, 2, 2, H, W]
        return both.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)
    out = None
    for (row, column), part in zip((place for place, _ in kernels), parts):
        if out is None:
            shape = (len(x), len(weight), 2 * height, 2 * width)
            out = torch.empty(shape, dtype=part.dtype, device=x.device, memory_format=_format(part))
        out[:, :, row::2, column::2] = part
    return out


def doubled_at_once(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same in four kernels for a card: the four kernels' sums, one convolution, and its pixels in their places.

    The taps of a 2x2 kernel are sums of 2x2 neighbours of the 3x3 kernel with zeros round it.
    """
    (batch, _, height, width), outer = x.shape, len(weight)
    sums = functional.avg_pool2d(weight, 2, 1, padding=1, divisor_override=1)  # [D, C, 4, 4], summed in float32
    taps = sums.unflatten(3, (2, 2)).unflatten(2, (2, 2))  # [D, C, tap, row, tap, column]
    kernels = taps.permute(3, 5, 0, 1, 2, 4).reshape(4 * outer, -1, 2, 2)  # of each pixel of a cell
    all_four = functional.conv2d(x, kernels, None if bias is None else bias.repeat(4), padding=1).contiguous()
    every, channel, line, one = all_four.stride()  # [B, 4D, H + 1, W + 1]
    down, right = 2 * outer * channel + line, outer * channel + one  # to the next pixel's kernel, whose cells lie so
    places = (batch, outer, height, 2, width, 2)
    pixels = all_four.as_strided(places, (every, channel, line, down, one, right), all_four.storage_offset())
    return pixels.reshape(batch, outer, 2 * height, 2 * width)


def _format(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.stride(1) == 1 else torch.contiguous_format


def _summed(weight: Tensor) -> list[tuple[tuple[int, int], Tensor]]:
    """The four kernels by the place of their pixel in the doubled cell. [D, C, 3, 3] -> 4 x [D, C, 2, 2]"""
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    rows = {0: (wide[:, :, 0], wide[:, :, 1] + wide[:, :, 2]), 1: (wide[:, :, 0] + wide[:, :, 1], wide[:, :, 2])}
    kernels = []
    for row, pair in rows.items():
        tall = torch.stack(pair, 2)  # [D, C, 2, 3]
        for column, columns in (
            (0, (tall[..., 0], tall[..., 1] + tall[..., 2])),
            (1, (tall[..., 0] + tall[..., 1], tall[..., 2])),
        ):
            kernels.append(((row, column), torch.stack(columns, 3).to(weight.dtype)))
    return kernels


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
        """The first half, of the normalised input; its memory may be used. [B, inner, H, W] -> [B, outer, H, W]"""
        return self.conv1(activated(normed))

    def second(self, normed: Tensor) -> Tensor:
        """The second half, of the first one's normalised result, likewise. [B, outer, H, W] -> [B, outer, H, W]"""
        return self.conv2(activated(normed))

    def shortcut(self, x: Tensor) -> Tensor:
        """What is added to the second half. [B, inner, H, W] -> [B, outer, H, W]"""
        return self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x


def added(x: Tensor, y: Tensor) -> Tensor:
    """x + y for an x that nobody else holds: in its own memory where no gradient is wanted. Any shape -> the same."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


class Attention(nn.Module):
    """x + attention over all cells, one head as wide as the channels. [B, C, H, W] -> [B, C, H, W]"""

    def __init__(self, channels: int, layers: Layers):
        super().__init__()
        self.norm = layers.norm(channels)
        self.q, self.k, self.v, self.proj_out = (layers.conv(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = exactly_normed(self.norm, x)
        return added(self.looked_up(h, _in_rows(self.k(h)), _in_rows(self.v(h))), x)

    def looked_up(self, normed: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What the cells of `normed` find among keys and values. [B, C, H, W], 2 x [B, 1, N, C] -> [B, C, H, W]

        A part of the queries at a time: the memory of a score for each pair of cells is never needed.
        """
        queries = _in_rows(self.q(normed))
        scores = scores_at_once(keys.shape[3], keys.dtype, keys.device)
        parts = queries.split(max(1, scores // (len(keys) * keys.shape[2])), dim=2)
        found = [functional.scaled_dot_product_attention(part, keys, values) for part in parts]
        found = found[0] if len(found) == 1 else torch.cat(found, 2)
        found = found.squeeze(1).unflatten(1, normed.shape[2:]).permute(0, 3, 1, 2)  # channels last in memory
        return self.proj_out(found if normed.device.type == "cpu" else found.contiguous())


def is_fused(width: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a card has a kernel for attention of one head so wide that never holds all the scores: torch's choice,
    as it stands now. Parts of the queries would leave most of such a card idle.
    """
    choose = getattr(torch, "_fused_sdp_choice", None)  # has no public name; 0 is the attention that holds them
    if choose is None or device.type not in CARDS:
        return False
    rows = torch.empty((1, 1, 64, width), dtype=dtype, device=device)
    return choose(rows, rows, rows) != 0


def scores_at_once(width: int, dtype: torch.dtype, device: torch.device, *, by_tiles: bool = False) -> int:
    """Attention scores to be made at once on a device, of one head so wide."""
    if device.type not in CARDS:
        return SCORES
    if is_fused(width, dtype, device):
        return FUSED_SCORES
    return CARD_TILE_SCORES if by_tiles else CARD_SCORES


def _in_rows(x: Tensor) -> Tensor:
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

    def __init__(self, inner: int, outer: int, count: int, resample: str | None, layers: Layers):
        super().__init__()
        self.block = nn.ModuleList(ResidualBlock(outer if i else inner, outer, layers) for i in range(count))
        if resample == "downsample":
            self.downsample = Down(outer, layers)
        elif resample == "upsample":
            self.upsample = Up(outer, layers)
        self.resample = resample

    @property
    def steps(self) -> list[nn.Module]:
        """Its modules in order: whoever runs them one by one holds nothing that is done with."""
        return [*self.block, getattr(self, self.resample)] if self.resample else list(self.block)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x
