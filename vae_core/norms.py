"""GroupNorm whose statistics belong to a whole picture that is only ever there in tiles.

Means and sums of squared deviations of disjoint parts are merged with the term between their means (Chan, Golub &
LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances"), in float64.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Moments:
    """How many values each group has (per group), their means and the sums of their squared deviations from these."""

    count: int
    mean: Tensor    # [G] float64
    spread: Tensor  # [G] float64

    @property
    def variance(self) -> Tensor:
        """Of the population, as GroupNorm has it. [G]"""
        return self.spread / self.count


def merged(parts: Iterable[Moments]) -> Moments:
    """The moments of disjoint parts taken together; the order does not matter.

    Raises ValueError when there are none.
    """
    parts = list(parts)
    if not parts:
        raise ValueError("there are no values to take a mean of: give at least one part")
    count = sum(part.count for part in parts)
    means = torch.stack([part.mean for part in parts])                                         # [parts, G]
    counts = torch.tensor([part.count for part in parts], dtype=torch.float64)[:, None]        # [parts, 1]
    mean = (means * counts).sum(0) / count
    between = (counts * (means - mean).square()).sum(0)
    return Moments(count, mean, torch.stack([part.spread for part in parts]).sum(0) + between)


def moments(x: Tensor, groups: int) -> Moments:
    """Moments of the channel groups of one picture. [1, C, H, W] -> [G]"""
    mean, variance = (t.cpu().double().view(groups, -1) for t in _by_channel(x))               # [G, C / G]
    count = x.shape[2] * x.shape[3]
    of_group = mean.mean(1, keepdim=True)
    spread = (variance.sum(1) + (mean - of_group).square().sum(1)) * count
    return Moments(count * mean.shape[1], of_group[:, 0], spread)


def _by_channel(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, in float32 at least. [1, C, H, W] -> 2 x [C]"""
    wide = torch.promote_types(x.dtype, torch.float32)
    if x.device.type == "cpu":  # batch norm's own first pass: a fifth of the time of `var_mean`; its results are `wide`
        unused = torch.zeros(x.shape[1], dtype=wide)
        mean, variance = torch.batch_norm_update_stats(x, unused, unused.clone(), 0.0)
        return mean, variance
    variance, mean = torch.var_mean(x.to(wide), (0, 2, 3), correction=0)
    return mean, variance


def normed(layer: nn.Module, x: Tensor, of_all: Moments) -> Tensor:
    """A GroupNorm layer applied to a part of a picture, with the statistics of all of it; a new tensor.

    The layer runs as always, so that a host's layer casts and patches its weight; only the function that it ends in
    is another one. [1, C, H, W] -> [1, C, H, W]
    """
    with _Shared(of_all):
        return layer(x)


class _Shared(TorchFunctionMode):
    """`group_norm` becomes the normalisation with given statistics while this is open."""

    def __init__(self, of_all: Moments):
        super().__init__()
        self.of_all = of_all

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not functional.group_norm:
            return func(*args, **(kwargs or {}))
        return self._normed(*args, **(kwargs or {}))

    def _normed(self, x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
                eps: float = 1e-5) -> Tensor:
        wide = {"dtype": torch.promote_types(x.dtype, torch.float32), "device": x.device}
        mean, variance = (t.to(wide["dtype"]).to(x.device).repeat_interleave(x.shape[1] // groups)
                          for t in (self.of_all.mean, self.of_all.variance))
        weight, bias = (None if t is None else t.to(**wide) for t in (weight, bias))
        return functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
