"""The singular values that rounding alone makes: what lies below them in a difference of stored weights is no change.

Of the rounding it is the numbers themselves that tell: a model of fp32 that was once saved as fp16 has its numbers.

A number stored in fp16 or bf16 is off by up to half a step, evenly: by step / sqrt(12) in the mean square. A matrix of
such errors [m, n] has singular values up to tau * (sqrt m + sqrt n) (V. Marchenko, L. Pastur 1967), which are exceeded
by the edge's own fluctuation (I. Johnstone 2001) only. Where the steps differ, the largest row and column take the
place of tau^2 n and tau^2 m (A. Bandeira, R. van Handel, arXiv:1408.6185).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_ONE_IN_A_THOUSAND = 3.27  # the quantile 0.999 of the Tracy-Widom law of order 1
_EXPONENT = 0x7F800000  # the bits of an fp32 number that hold its exponent
_LOOKED_AT, _FEW = 2**16, 64  # numbers that tell a precision; of fewer it may be chance
_PIECE = 2**22  # numbers of a weight that are looked at together
_RESOLVED = 1e-6  # of the largest singular value and of the energy: what fp32 arithmetic tells from nothing


class Noise(NamedTuple):
    """The rounding noise of a difference [rows, columns].

    variance: the mean square of its numbers. edge: the largest singular value that it makes by itself. least: the part
    of the variance that is there in any case.
    """

    variance: float
    edge: float
    rows: int
    columns: int
    least: float

    def scaled(self, variance: float) -> "Noise":
        """The same noise at another variance, which is measured in what a cut leaves over."""
        edge = self.edge * math.sqrt(variance / self.variance) if self.variance else 0.0
        return self._replace(variance=variance, edge=edge)


def precision_of(numbers: Tensor, stored: torch.dtype) -> torch.dtype:
    """The type that numbers had before they came into the one they are stored in: bf16 or fp16 where all of them are
    numbers of it. Zeros tell nothing.
    """
    some = numbers.reshape(-1)[:: max(1, numbers.numel() // _LOOKED_AT)].float()
    some = some[some != 0]
    for kind in (torch.bfloat16, torch.float16):  # the coarser first
        coarser = torch.finfo(kind).eps > torch.finfo(stored).eps
        if coarser and len(some) >= _FEW and torch.equal(some.to(kind).float(), some):
            return kind
    return stored


def rounding_noise(weight: Tensor, stored: torch.dtype, times: int = 1) -> Noise:
    """The noise of a weight's own rounding to the type it is stored in, and of as many roundings as `times` at most.

    [out, in] of any floating type
    """
    of_rows, columns = [], torch.zeros(weight.shape[1], dtype=torch.float64, device=weight.device)
    for piece in weight.split(max(1, _PIECE // weight.shape[1])):
        squares = _steps(piece.float(), stored).square()
        of_rows.append(squares.sum(1, dtype=torch.float64))
        columns += squares.sum(0, dtype=torch.float64)
    rows = torch.cat(of_rows)
    of_row, of_column, total = torch.stack([rows.amax(), columns.amax(), rows.sum()]).tolist()
    step = times / 12
    plain = math.sqrt(of_row * step) + math.sqrt(of_column * step)
    variance = total * step / weight.numel()
    edge = plain * _fluctuation(*weight.shape)
    return Noise(variance, edge, weight.shape[0], weight.shape[1], variance / times)


def noise_of_difference(tuned: Noise, base: Noise) -> Noise:
    """The noise of tuned - base. The base's own rounding may be missing: a tuned model starts from what is stored."""
    return tuned._replace(variance=tuned.variance + base.variance, edge=math.hypot(tuned.edge, base.edge))


def noise_of_factors(up: Tensor, down: Tensor, stored: torch.dtype) -> Noise:
    """The noise of up @ down from the rounding of both factors: |E down| + |up E|, E of norm tau (sqrt m + sqrt r).

    [out, r], [r, in]
    """
    first, second = rounding_noise(up, stored), rounding_noise(down, stored)
    sizes = [torch.linalg.matrix_norm(factor.float(), 2).item() for factor in (up, down)]
    squares = [factor.float().square().sum().item() for factor in (up, down)]
    out, inputs = up.shape[0], down.shape[1]
    variance = (first.variance * out * squares[1] + second.variance * inputs * squares[0]) / (out * inputs)
    return Noise(variance, first.edge * sizes[1] + second.edge * sizes[0], out, inputs, variance / 2)


def count_above(values: Tensor, energy: float, noise: Noise) -> int:
    """How many singular values rise above the noise: those above the edge that all roundings could make, and of the
    next ones those above the edge of what is then left over.

    That is smaller where a rounding is missing, but never less than `least`: what is changed by less than a step leaves
    less noise, of which some stands out. Below a millionth of the largest value fp32 arithmetic tells nothing, nor does
    what is left over below a millionth of the energy. values [k], largest first, fp64
    """
    found, squares = values.tolist(), values.square().cumsum(0).tolist()
    floor = _RESOLVED * found[0] if found else 0.0
    rank = sum(value > max(noise.edge, floor) for value in found)
    while rank < len(found):
        left = max(0.0, energy - squares[rank - 1]) if rank else energy
        free = max(1, (noise.rows - rank) * (noise.columns - rank))
        told = left > _RESOLVED * energy
        variance = min(noise.variance, max(left / free, noise.least)) if told else noise.variance
        if found[rank] <= max(noise.scaled(variance).edge, floor):
            break
        rank += 1
    return rank


def _steps(weight: Tensor, stored: torch.dtype) -> Tensor:
    """The distance of each number to the next one in the stored type, in fp32. [out, in] -> [out, in]"""
    kind = torch.finfo(stored)
    powers = (weight.contiguous().view(torch.int32) & _EXPONENT).view(torch.float32)  # 2 ** floor(log2 |w|)
    return powers.clamp_min(kind.tiny) * kind.eps  # below `tiny` the steps stay those of the smallest power


def _fluctuation(rows: int, columns: int) -> float:
    """How much the edge of a finite matrix may lie above the limit, in one of a thousand."""
    roots = math.sqrt(rows) + math.sqrt(columns)
    width = roots * (1 / math.sqrt(rows) + 1 / math.sqrt(columns)) ** (1 / 3)
    return math.sqrt(1 + _ONE_IN_A_THOUSAND * width / roots**2)
