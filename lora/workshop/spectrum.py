"""The leading singular values and vectors of a change that has no thin factors, such as the difference of two models.

A randomised SVD that keeps its power iterations, the block Krylov method (N. Halko, P. Martinsson, J. Tropp,
arXiv:0909.4061; C. Musco, C. Musco, arXiv:1504.05477): it needs half the products of the range finder that forgets
them. What a cut loses is exact: |D|^2 less the squares that are kept.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..kinds.adapters import LoRAError
from ..weights.low_rank import frobenius
from .algebra import Spectrum, spectrum_of
from .thin import Thin, flat_shape

_STEPS, _FIRST = 5, 4  # blocks of half the wanted rank; so many give 2.5 columns for each triple; the first look
_CLOSE = 1.005  # times the optimum: where the estimate of an error ends the work, which is right to some thousandths
_LEAST_BLOCK, _BLOCK = 16, 32  # columns; the second where the rank is not known beforehand
_MOST_PASSES, _LITTLE = 3, 0.1  # with which columns are freed of a basis, and the share of them that is little
_SLOWEST, _NOTHING = 0.95, 1e-6  # of a geometric series, and of the energy: what fp32 tells from nothing
_SEED = 20170501  # of the sketch: two runs on one device give equal bits

Enough = Callable[[Tensor, float], bool]


def spectrum_for(thin: Thin, most: int, enough: Enough | None = None) -> Spectrum:
    """The singular values and vectors of a change of any form: all of them from thin factors, of a dense one the
    leading ones, as `leading_spectrum` finds them.
    """
    return leading_spectrum(thin.change(), most, enough) if thin.dense else spectrum_of(thin)


def leading_spectrum(change: Tensor, most: int, enough: Enough | None = None) -> Spectrum:
    """The leading singular values and vectors of a dense change, at most so many, none of the values too large.

    Cut at `most`, the error is within 1 % of the optimum, also of a flat spectrum: it goes on until what the last steps
    have gained says so. `enough(values, energy)` may end it earlier: it is asked with the values that are known well so
    far. A change with few rows or columns is decomposed whole. Computed in fp32 (a change in fp64 in that) where the
    change is, the small cores in fp64 on the CPU.

    Args:
        change: [out, ...] of any floating type.
        most: the number of singular values that are wanted; a change has no more than its smaller side.
        enough: whether these values, [k] in fp64, and the squared norm of the change are enough.

    Raises:
        LoRAError: NaN or infinity in the change, or a `most` below 1.

    >>> diagonal = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    >>> found = leading_spectrum(diagonal, 2)
    >>> [round(value, 3) for value in found.s.tolist()], round(found.left_over(2), 3)
    ([3.0, 2.0], 1.0)
    """
    if most < 1:
        raise LoRAError(f"the rank is {most}: expected 1 or more")
    flat = change.reshape(flat_shape(change.shape))
    wide = flat if flat.dtype == torch.float64 else flat.float()
    energy = frobenius(wide) ** 2 if wide.dtype == torch.float32 else wide.square().sum().item()
    if not math.isfinite(energy):
        raise LoRAError("the change holds NaN or infinity")
    shape = tuple(change.shape)
    if wide.shape[0] > wide.shape[1]:
        found = _leading(wide.mT, most, enough, energy)
        return Spectrum(found.vt.mT, found.s, found.u.mT, shape, energy)
    return replace(_leading(wide, most, enough, energy), shape=shape)


def _leading(change: Tensor, most: int, enough: Enough | None, energy: float) -> Spectrum:
    """`leading_spectrum` of a matrix with no more rows than columns."""
    side = change.shape[0]
    most = min(most, side)
    found = _to_a_rank(change, most, energy) if enough is None else _until(change, most, enough, energy)
    return found or _first(_decompose(change, energy), most)


def _to_a_rank(change: Tensor, most: int, energy: float) -> Spectrum | None:
    """So many triples, in blocks of half as many columns; None where half of all columns do not do it."""
    block = max(_LEAST_BLOCK, -(-most // 2))
    krylov, steps = _Krylov(change, block), _FIRST
    while 2 * steps * block < change.shape[0]:
        krylov.grow(steps)
        if krylov.error(most, energy) <= _CLOSE:
            return krylov.decompose(most, energy)
        steps += 1
    return None


def _until(change: Tensor, most: int, enough: Enough, energy: float) -> Spectrum | None:
    """As many triples as are enough; None where half of all columns do not do it."""
    krylov, steps = _Krylov(change, _BLOCK), _STEPS - 1
    while 2 * steps * _BLOCK < change.shape[0]:
        krylov.grow(steps)
        known = min(most, 2 * steps * _BLOCK // _STEPS)
        found = krylov.decompose(known, energy)
        if known == most or enough(found.s, energy):
            return found
        steps = -(-3 * steps // 2)
    return None


class _Krylov:
    """The growing orthonormal bases of a change's columns (`left`) and rows (`right`), from a random block of rows.

    left [out, k]; right [in, k + block], the last block of which has not met the change yet. `core` [k + block, k] is
    the change between the two: change^T left = right core.
    """

    def __init__(self, change: Tensor, block: int) -> None:
        random = torch.Generator("cpu").manual_seed(_SEED)
        sketch = torch.randn(change.shape[1], block, generator=random, device="cpu", dtype=torch.float32)
        self.change, self.block = change, block
        self.left = change.new_zeros(change.shape[0], 0)
        self.right = torch.linalg.qr(sketch.to(change.device, change.dtype)).Q
        self.core = change.new_zeros(block, 0)

    def grow(self, steps: int) -> None:
        """Add blocks until there are so many."""
        for _ in range(steps - self.left.shape[1] // self.block):
            new, _ = _apart(self.change @ self.right[:, -self.block :], self.left)
            rows, parts = _apart((new.mT @ self.change).mT, self.right)  # twice as fast as change^T new
            self.left, self.right = torch.cat([self.left, new], 1), torch.cat([self.right, rows], 1)
            self.core = torch.cat([torch.nn.functional.pad(self.core, (0, 0, 0, self.block)), parts], 1)

    def error(self, rank: int, energy: float) -> float:
        """The error of a cut to a rank over that of the best one, as the last steps tell it: what each of them adds to
        the squares that are kept falls like a geometric series.
        """
        core = self.core.cpu().double()
        kept = []
        for columns in range(core.shape[1] - 2 * self.block, core.shape[1] + 1, self.block):
            squares = torch.linalg.eigvalsh(core[:, :columns].mT @ core[:, :columns])
            kept.append(squares[-rank:].sum().item())
        before, last = kept[1] - kept[0], kept[2] - kept[1]
        ratio = min(_SLOWEST, max(0.0, last / before)) if before > 0 else 0.0
        left, missing = energy - kept[2], max(0.0, last) * ratio / (1 - ratio)
        if left <= _NOTHING * energy:
            return 1.0
        return math.sqrt(left / (left - missing)) if missing < left else math.inf

    def decompose(self, count: int, energy: float) -> Spectrum:
        """The leading singular values and vectors of the change within its basis: those of the small core."""
        u, s, vt = torch.linalg.svd(self.core.mT.cpu().double(), full_matrices=False)
        left, right = self.left @ u[:, :count].to(self.left), vt[:count].to(self.right) @ self.right.mT
        return Spectrum(left, s[:count], right, tuple(self.change.shape), energy)


def _apart(columns: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """An orthonormal basis of the columns, orthogonal to another one, and what they are in both: columns = [basis, new]
    @ parts. Once more where little is left of a column without `basis`, because rounding has put some of it back.
    """
    new, inside = columns, columns.new_zeros(basis.shape[1], columns.shape[1])
    own = torch.eye(columns.shape[1], dtype=columns.dtype, device=columns.device)
    for _ in range(_MOST_PASSES):
        part = basis.mT @ new
        new, rest = torch.linalg.qr(new - basis @ part)
        inside, own = inside + part @ own, rest @ own
        if not len(part) or rest.diagonal().abs().min().item() >= _LITTLE * part.norm(dim=0).max().item():
            break
    return new, torch.cat([inside, own])


def _decompose(matrix: Tensor, energy: float) -> Spectrum:
    """All singular values and vectors of a matrix with no more rows than columns: QR of its rows, and a small SVD."""
    right, core = torch.linalg.qr(matrix.mT)  # [in, k], [k, k]: matrix = core^T right^T
    u, s, vt = torch.linalg.svd(core.mT.cpu().double(), full_matrices=False)
    return Spectrum(u.to(right), s, vt.to(right) @ right.mT, tuple(matrix.shape), energy)


def _first(found: Spectrum, count: int) -> Spectrum:
    return replace(found, u=found.u[:, :count], s=found.s[:count], vt=found.vt[:count])
