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

_STEPS, _FIRST = 5, 4  # blocks that give 2.5 columns for each triple where one is half of them; the fewest
_CLOSE = 1.0065  # times the optimum: where the estimate of an error ends the work, which is right to some thousandths
_LEAST_BLOCK, _BLOCK = 16, 32  # columns; the second where the rank is not known beforehand
_MOST_PASSES, _LITTLE = 3, 0.1  # with which columns are freed of a basis, and the share of them that is little
_FAR = 0.3  # from a row that depends on those before it, of the longest one: the rounding is ten times that of a QR
_SLOWEST, _NOTHING = 0.95, 1e-6  # of a geometric series, and of the energy: what fp32 tells from nothing
_TOLD = 1e-10  # of the largest square in fp64: down to here the vectors of its root are right to 1e-6, as fp32 is
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
    """So many triples, in blocks of half as many columns; the first look is at 2.5 columns for each triple. None where
    half of all columns do not do it.
    """
    block = max(_LEAST_BLOCK, -(-most // 2))
    steps = max(_FIRST, -(-_STEPS * most // (2 * block)))
    krylov = _Krylov(change, block) if 2 * steps * block <= change.shape[0] else None
    while krylov and 2 * steps * block <= change.shape[0]:
        krylov.grow(steps)
        if krylov.error(most, energy) <= _CLOSE:
            return krylov.decompose(most, energy)
        steps += 1
    return None


def _until(change: Tensor, most: int, enough: Enough, energy: float) -> Spectrum | None:
    """As many triples as are enough; None where half of all columns do not do it."""
    steps = _STEPS
    krylov = _Krylov(change, _BLOCK) if 2 * steps * _BLOCK <= change.shape[0] else None
    while krylov and 2 * steps * _BLOCK <= change.shape[0]:
        krylov.grow(steps)
        known = min(most, 2 * steps * _BLOCK // _STEPS)
        found = krylov.decompose(known, energy)
        if known == most or enough(found.s, energy):
            return found
        steps = -(-3 * steps // 2)
    return None


class _Krylov:
    """The growing orthonormal bases of a change's columns (`left`) and rows (`right`), from a random block of rows.

    left [k, out]; right [k, in], which have all met the change: change right^T = left^T core^T. The last block of
    `left` has not. A vector of a basis is a row, so that a block is added to one piece of memory.
    """

    def __init__(self, change: Tensor, block: int) -> None:
        random = torch.Generator("cpu").manual_seed(_SEED)
        sketch = torch.randn(change.shape[1], block, generator=random, device="cpu", dtype=torch.float32)
        self.change, self.block, self.columns = change, block, 0
        self._room = [change.new_empty(0, side) for side in change.shape]
        self._parts: list[Tensor] = []
        self._kept: dict[int, float] = {}
        self._make_room(_FIRST)
        self._add(_orthonormal(sketch.to(change.device, change.dtype).mT)[0])

    @property
    def left(self) -> Tensor:
        return self._room[0][: self.columns]

    @property
    def right(self) -> Tensor:
        return self._room[1][: self.columns]

    def grow(self, steps: int) -> None:
        """Add blocks until there are so many."""
        self._make_room(steps)
        while self.columns < steps * self.block:
            rows, _ = _apart(self.left[-self.block :] @ self.change, self.right)
            self._add(rows)
        self.core = torch.zeros(
            self.columns, self.columns, device="cpu", dtype=torch.float64
        )  # [k of right, k of left]
        for number, part in enumerate(self._parts):
            self.core[number * self.block : (number + 1) * self.block, : part.shape[1]] = part
        self.gram = self.core @ self.core.mT
        self.squares, self.vectors = torch.linalg.eigh(self.gram)

    def _add(self, rows: Tensor) -> None:
        """Put a new block into `right`, and what the change makes of it into `left`."""
        new, part = _apart((self.change @ rows.mT).mT, self.left)
        self.columns += self.block
        self.left[-self.block :], self.right[-self.block :] = new, rows
        self._parts.append(part.mT.cpu())

    def _make_room(self, steps: int) -> None:
        """Room for so many blocks in both bases: a copy of them for every block takes as long as its products."""
        for number, old in enumerate(self._room):
            if len(old) < steps * self.block:
                self._room[number] = old.new_empty((steps + 1) * self.block, old.shape[1])
                self._room[number][: len(old)] = old

    def error(self, rank: int, energy: float) -> float:
        """The error of a cut to a rank over that of the best one, as the last steps tell it: what each of them adds to
        the squares that are kept falls like a geometric series.
        """
        self._kept[self.columns] = self.squares[-rank:].sum().item()
        for columns in (self.columns - 2 * self.block, self.columns - self.block):
            if columns not in self._kept:  # the last look may have known it
                squares = torch.linalg.eigvalsh(self.gram[:columns, :columns])
                self._kept[columns] = squares[-rank:].sum().item()
        first, second, kept = (self._kept[self.columns - steps * self.block] for steps in (2, 1, 0))
        before, last = second - first, kept - second
        ratio = min(_SLOWEST, max(0.0, last / before)) if before > 0 else 0.0
        left, missing = energy - kept, max(0.0, last) * ratio / (1 - ratio)
        if left <= _NOTHING * energy:
            return 1.0
        return math.sqrt(left / (left - missing)) if missing < left else math.inf

    def decompose(self, count: int, energy: float) -> Spectrum:
        """The leading singular values and vectors of the change within its bases: those of core^T, from the
        eigenvalues of core core^T, in half the time, where their squares tell all of them apart from nothing.
        """
        squares, v = self.squares[-count:].flip(0), self.vectors[:, -count:].flip(1)
        if squares[-1] > _TOLD * squares[0]:
            s = squares.sqrt()
            u, vt = self.core.mT @ v / s, v.mT
        else:
            u, s, vt = torch.linalg.svd(self.core.mT, full_matrices=False)
            u, s, vt = u[:, :count], s[:count], vt[:count]
        left, right = self.left.mT @ u.to(self.left), vt.to(self.right) @ self.right
        return Spectrum(left, s, right, tuple(self.change.shape), energy)


def _apart(rows: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """An orthonormal basis of the rows, orthogonal to another one, and what they are in both: rows = parts^T [basis,
    new]. Once more where little is left of a row without `basis`, because rounding has put some of it back.

    [b, n], [k, n] -> [b, n], [k + b, b]
    """
    if not len(basis):
        new, rest, _ = _orthonormal(rows)
        return new, rest
    new, inside = rows, rows.new_zeros(len(basis), len(rows))
    own = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    for _ in range(_MOST_PASSES):
        part = basis @ new.mT
        new, rest, least = _orthonormal(torch.addmm(new, part.mT, basis, alpha=-1))
        inside, own = inside + part @ own, rest @ own
        if least >= _LITTLE * part.square().sum(0).max().sqrt().item():
            break
    return new, torch.cat([inside, own])


def _orthonormal(rows: Tensor) -> tuple[Tensor, Tensor, float]:
    """An orthonormal basis of the rows, the rows in it, and the least that one adds to those before it: by Cholesky's
    factor of their products, in half the time of a QR, where rounding allows it, which it squares.

    [b, n] -> [b, n], [b, b] with rows = second^T first
    """
    lower, failed = torch.linalg.cholesky_ex(rows @ rows.mT)
    diagonal = lower.diagonal()
    least, most, failed = torch.stack([*torch.aminmax(diagonal), failed.to(diagonal)]).tolist()
    if not failed and least >= _FAR * most > 0:
        inverse = torch.linalg.solve_triangular(lower, torch.eye(len(rows)).to(rows), upper=False)
        return inverse @ rows, lower.mT, least
    new, rest = torch.linalg.qr(rows.mT)
    return new.mT, rest, rest.diagonal().abs().min().item()


def _decompose(matrix: Tensor, energy: float) -> Spectrum:
    """All singular values and vectors of a matrix with no more rows than columns: QR of its rows, and a small SVD."""
    right, core = torch.linalg.qr(matrix.mT)  # [in, k], [k, k]: matrix = core^T right^T
    u, s, vt = torch.linalg.svd(core.mT.cpu().double(), full_matrices=False)
    return Spectrum(u.to(right), s, vt.to(right) @ right.mT, tuple(matrix.shape), energy)


def _first(found: Spectrum, count: int) -> Spectrum:
    return replace(found, u=found.u[:, :count], s=found.s[:count], vt=found.vt[:count])
