"""GroupNorm by tiles: each tile is normalised with the statistics of the whole picture.

Means and variances of disjoint parts are merged with the term between their means (Chan, Golub & LeVeque 1979,
"Updating formulae and a pairwise algorithm for computing sample variances"): on the device that has the parts, in
float64, or where it has none in pairs of float32 whose sum is the number (Dekker 1971). The program never
waits for the device.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_PIECE_CELLS = 4096  # cells of one part: with more a float32 sum loses digits, with fewer it takes longer
_MIXES_TYPES = frozenset({"cpu", "cuda", "xpu"})  # batch_norm of half-precision values with float32 statistics


@dataclass(frozen=True)
class Part:
    """The mean and the population variance of each channel over some cells of one picture, in float32 at least."""

    cells: int
    mean: Tensor  # [C]
    variance: Tensor  # [C]


@dataclass(frozen=True)
class Moments:
    """The mean and the population variance of the group that each channel is in, over a whole picture."""

    mean: Tensor  # [C]
    variance: Tensor  # [C]


def merged(parts: Iterable[Part], groups: int) -> Moments:
    """Merge the moments of parts into those of their channel groups; the order of the parts does not matter.

    In the parts' type and on their device. Raises ValueError when there are none.
    """
    parts = sorted(parts, key=lambda part: part.cells)
    if not parts:
        raise ValueError("there are no values to take a mean of: give at least one part")
    dtype, device = parts[0].mean.dtype, parts[0].mean.device
    wide = torch.float64 if has_float64(device) else torch.float32
    means = torch.stack([part.mean for part in parts]).to(wide)  # [parts, C]
    variances = torch.stack([part.variance for part in parts]).to(wide)  # [parts, C]
    shares = _shares([part.cells for part in parts], wide, device)  # [parts, 1]
    near = means[0]  # means are taken relative to one of them: float32 keeps more digits of differences
    shift = _total((means - near) * shares)  # [C]
    variance = _total((variances + (means - near - shift).square()) * shares)  # [C]
    near, shift, variance = (t.view(groups, -1).T for t in (near, shift, variance))  # [C / G, G]
    shift, width = shift + (near - near[0]), len(near)
    of_group = _total(shift) / width  # [G]
    variance = _total(variance + (shift - of_group).square()) / width  # [G]
    return Moments(*(t.to(dtype).repeat_interleave(width) for t in (near[0] + of_group, variance)))


def _shares(cells: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Each part's share of all cells; `cells` is sorted, and equal parts are filled in at once. -> [parts, 1]"""
    whole = sum(cells)
    runs = [(count, len(list(run))) for count, run in groupby(cells)]
    return torch.cat([torch.full((length, 1), count / whole, dtype=dtype, device=device) for count, length in runs])


def _total(values: Tensor) -> Tensor:
    """Sum over the first dimension; float32 in pairs, so that the sum is rounded once. [N, ...] -> [...]"""
    if values.dtype == torch.float64:
        return values.sum(0)
    high, low = values, torch.zeros_like(values)
    while len(high) > 1:
        if len(high) % 2:
            high, low = (torch.cat((t, torch.zeros_like(t[:1]))) for t in (high, low))
        (a, b), (c, d) = high.chunk(2), low.chunk(2)
        high = a + b
        of_b = high - a  # Knuth's two-sum: what a + b lost by rounding goes with `low`
        low = c + d + ((a - (high - of_b)) + (b - of_b))
    return high[0] + low[0]


@lru_cache(maxsize=8)
def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64: MPS, DirectML and Intel's Arc do not."""
    if device.type == "xpu" and torch.xpu.is_available():
        return bool(torch.xpu.get_device_properties(device).has_fp64)
    return device.type in ("cpu", "cuda", "meta")


def parts_of(x: Tensor) -> list[Part]:
    """The moments of each channel of a picture or a tile: one part, on a processor several.

    [1, C, H, W] -> Parts of [C]
    """
    cells_at_once = _PIECE_CELLS if x.device.type == "cpu" else x.shape[2] * x.shape[3]
    pieces = x.split(max(1, cells_at_once // x.shape[3]), dim=2)
    return [Part(piece.shape[2] * piece.shape[3], *_by_channel(piece)) for piece in pieces]


def moments(x: Tensor, groups: int) -> Moments:
    """The moments of the channel groups of one picture. [1, C, H, W] -> Moments of [C]"""
    return merged(parts_of(x), groups)


def _by_channel(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, in float32 at least. [1, C, H, W] -> 2 x [C]"""
    wide = torch.promote_types(x.dtype, torch.float32)
    if x.device.type == "cpu":  # batch norm's own first pass: a fifth of the time of `var_mean`; its results are `wide`
        unused = torch.zeros(x.shape[1], dtype=wide)
        mean, variance = torch.batch_norm_update_stats(x, unused, unused.clone(), 0.0)
        return mean, variance
    variance, mean = torch.var_mean(x.to(wide), (0, 2, 3), correction=0)
    return mean, variance


def exactly_normed(layer: nn.GroupNorm, x: Tensor) -> Tensor:
    """Apply a GroupNorm layer to whole pictures; a new tensor. [B, C, H, W] -> [B, C, H, W]

    torch's own sums are float32 where the channels are last in memory: 1e-3 off at 1024 px. Where no gradient is
    wanted, and on a processor, `moments` replaces them.
    """
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return layer(x)
    if len(x) == 1:
        return normed(layer, x, moments(x, layer.num_groups))
    out = torch.empty_like(x)
    for i in range(len(x)):
        out[i : i + 1] = normed(layer, x[i : i + 1], moments(x[i : i + 1], layer.num_groups))
    return out


def normed(layer: nn.GroupNorm, x: Tensor, of_all: Moments) -> Tensor:
    """Apply a GroupNorm layer to a tile with the statistics of the whole picture; a new tensor.

    The layer's own forward runs, so that a host's layer casts and patches its weight; only the `group_norm` that it
    calls is replaced. [1, C, H, W] -> [1, C, H, W]
    """
    with _Shared(of_all):
        return layer(x)


class _Shared(TorchFunctionMode):
    """Replaces `group_norm` by a normalisation with given statistics while it is open."""

    def __init__(self, of_all: Moments):
        super().__init__()
        self.of_all = of_all

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not functional.group_norm:
            return func(*args, **(kwargs or {}))
        return self._normed(*args, **(kwargs or {}))

    def _normed(
        self, x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
    ) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        mean, variance = (t.to(x.device, wide) for t in (self.of_all.mean, self.of_all.variance))  # [C]
        weight, bias = (None if t is None else t.to(x.device, wide) for t in (weight, bias))
        if x.dtype == wide or x.device.type in _MIXES_TYPES:
            return functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
        return by_hand(x, mean, variance, weight, bias, eps)


def by_hand(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """batch_norm with given statistics, for a device whose own takes no mixed types (MPS, DirectML).

    Computed in the statistics' type, then rounded to x's. [B, C, H, W] and 4 x [C] -> [B, C, H, W]
    """
    scale = (variance + eps).rsqrt() if weight is None else (variance + eps).rsqrt() * weight
    out = (x.to(mean.dtype) - mean.view(1, -1, 1, 1)).mul_(scale.view(1, -1, 1, 1))
    return (out if bias is None else out.add_(bias.view(1, -1, 1, 1))).to(x.dtype)
