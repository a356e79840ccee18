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

_FIRST = 8  # products before the first look: two columns for each triple where a block is half of them
_ROOM = 6  # blocks, that a basis is made for at first
_CLOSE = 1.0085  # times the optimum: where the estimate of an error ends the work, which is right to some thousandths
_LEAST_BLOCK, _BLOCK = 16, 32  # columns; the second where the rank is not known beforehand
_MORE_PASSES, _LITTLE = 2, 0.1  # with which rows are freed of a basis once more, and the share of them that is little
_FAR = 0.3  # from a row that depends on those before it, of the longest one: the rounding is ten times that of a QR
_SLOWEST, _NOTHING = 0.95, 1e-6  # of a geometric series, and of the energy: what fp32 tells from nothing
_ROUGH = 0.05  # of the energy: where as much is left, fp32 tells what a product gains to some hundredths
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
    """So many triples, in blocks of half as many columns; the first look is at two columns for each triple. None where
    half of all columns do not do it.
    """
    block = max(_LEAST_BLOCK, -(-most // 2))
    products = _FIRST
    krylov = None
    while (products + 1) // 2 * 2 * block <= change.shape[0]:
        krylov = krylov or _Krylov(change, block)
        krylov.grow(products)
        if krylov.error(most, energy) <= _CLOSE:
            return krylov.decompose(most, energy)
        products += 1
    return None


def _until(change: Tensor, most: int, enough: Enough, energy: float) -> Spectrum | None:
    """As many triples as are enough; None where half of all columns do not do it."""
    blocks = _FIRST // 2
    krylov = _Krylov(change, _BLOCK) if 2 * blocks * _BLOCK <= change.shape[0] else None
    while krylov and 2 * blocks * _BLOCK <= change.shape[0]:
        krylov.grow(2 * blocks)
        known = min(most, blocks * _BLOCK // 2)
        found = krylov.decompose(known, energy)
        if known == most or enough(found.s, energy):
            return found
        blocks = -(-3 * blocks // 2)
    return None


class _Basis:
    """Orthonormal rows, to which blocks are added in one piece of memory: a copy of them for every block would take as
    long as its products.
    """

    def __init__(self, first: Tensor) -> None:
        self._room, self.count = first, len(first)

    @property
    def rows(self) -> Tensor:
        return self._room[: self.count]

    def add(self, block: Tensor) -> None:
        end = self.count + len(block)
        if end > len(self._room):
            room = block.new_empty(max(end, _ROOM * len(block), 2 * self.count), block.shape[1])
            room[: self.count] = self.rows
            self._room = room
        self._room[self.count : end] = block
        self.count = end


class _Krylov:
    """The growing orthonormal bases of a change's rows and columns, from a random block of rows.

    Their last blocks meet the change in turns, one block with each product, and what it makes of one is added to the
    other basis. So all rows of one basis have met the change, with what it makes of them as `core`, [k, more], in the
    other: change rows^T = columns^T core^T after an odd number of products, columns change = core rows after an even.
    """

    def __init__(self, change: Tensor, block: int) -> None:
        self.change, self.block, self.products = change, block, 0
        rows, _, _, _ = _orthonormal(_sketch(change, block))
        self._bases = _Basis(rows), _Basis(change.new_empty(0, change.shape[0]))  # of rows, of columns
        self._parts: tuple[list[Tensor], list[Tensor]] = [], []
        self._kept: dict[int, float] = {}

    def grow(self, products: int) -> None:
        """Meet the change until there are so many products, and decompose what it makes of the basis that met it."""
        while self.products < products:
            self.products += 1
            met, other = self._met()
            last = met.rows[-self.block :]
            made = (self.change @ last.mT).mT if self.products % 2 else last @ self.change
            new, part = _apart(made, other.rows)
            other.add(new)
            self._parts[self.products % 2].append(part)
        self.core = self._core_after(self.products)
        self.gram = self.core @ self.core.mT
        self.squares, self.vectors = torch.linalg.eigh(self.gram)

    def _core_after(self, products: int) -> Tensor:
        """What the change makes of the basis that met it in the last of the products, in the other one, fp64."""
        parts = self._parts[products % 2][: (products + 1) // 2]
        core = parts[-1].new_zeros(len(parts) * self.block, len(parts[-1]))
        for number, part in enumerate(parts):
            core[number * self.block : (number + 1) * self.block, : len(part)] = part.mT
        return core.to("cpu", torch.float64)

    def _met(self) -> tuple[_Basis, _Basis]:
        """The basis whose rows have all met the change with the last product, and the other one."""
        rows, columns = self._bases
        return (rows, columns) if self.products % 2 else (columns, rows)

    def error(self, rank: int, energy: float) -> float:
        """The error of a cut to a rank over that of the best one, as the last products tell it: what each of them adds
        to the squares that are kept falls like a geometric series. Rows and columns do not add alike, and planted
        directions are found in leaps: it is the slowest of three series that such sums can be read as.
        """
        kept = self._kept[self.products] = self.squares[-rank:].sum().item()
        left = energy - kept
        is_rough = left > _ROUGH * energy
        one, two, three, four = (self._kept_after(self.products - back, rank, is_rough) for back in range(1, 5))
        readings = (
            _over(kept - one, one - two) ** 2,
            _over(kept - two, one - three) ** 2,
            _over(kept - two, two - four),
        )
        ratio = min(_SLOWEST, max(readings))  # of two products to the two before
        missing = max(0.0, kept - two) * ratio / (1 - ratio)
        if left <= _NOTHING * energy:
            return 1.0
        return math.sqrt(left / (left - missing)) if missing < left else math.inf

    def _kept_after(self, products: int, rank: int, is_rough: bool) -> float:
        """The sum of so many of the largest squares, as they were after so many products; where a millionth of it does
        not matter in fp32, in half the time.
        """
        if products not in self._kept:
            core = self._core_after(products)
            core = core.float() if is_rough else core
            few = len(core) <= rank
            kept = core.square().sum() if few else torch.linalg.eigvalsh(core @ core.mT)[-rank:].sum()
            self._kept[products] = kept.item()
        return self._kept[products]

    def decompose(self, count: int, energy: float) -> Spectrum:
        """The leading singular values and vectors of the change within its bases: those of the core, from the
        eigenvalues of core core^T, in half the time, where their squares tell all of them apart from nothing.
        """
        squares, of_met = self.squares[-count:].flip(0), self.vectors[:, -count:].flip(1)
        if squares[-1] > _TOLD * squares[0]:
            s = squares.sqrt()
            of_other = self.core.mT @ of_met / s
        else:
            u, s, vt = torch.linalg.svd(self.core, full_matrices=False)
            of_met, s, of_other = u[:, :count], s[:count], vt[:count].mT
        right, left = (of_met, of_other) if self.products % 2 else (of_other, of_met)
        rows, columns = (basis.rows for basis in self._bases)
        return Spectrum(columns.mT @ left.to(columns), s, right.mT.to(rows) @ rows, tuple(self.change.shape), energy)


def _over(last: float, before: float) -> float:
    """One gain over another; 0 where nothing was gained before."""
    return max(0.0, last / before) if before > 0 else 0.0


def _sketch(change: Tensor, block: int) -> Tensor:
    """So many sums of rows of the change with random signs, each row in two of them: nearly a product with random
    numbers, in a fifth of its time where a row is one piece of memory of the CPU (elsewhere that is not the same to the
    bit each time, or slow).

    [out, in] -> [block, in]
    """
    rows, random = len(change), torch.Generator("cpu").manual_seed(_SEED)
    places = torch.randint(2 * block, (2, rows), generator=random, device="cpu")  # the second half has a minus
    if change.device.type == "cpu" and change.is_contiguous():
        sums = change.new_zeros(2 * block, change.shape[1])
        for place in places:
            sums.index_add_(0, place, change)
        return sums[:block] - sums[block:]
    signs = torch.zeros(2 * block, rows, device="cpu", dtype=torch.float32)
    signs.scatter_add_(0, places, torch.ones(2, rows, device="cpu", dtype=torch.float32))
    return (signs[:block] - signs[block:]).to(change.device, change.dtype) @ change


def _apart(rows: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """An orthonormal basis of the rows, orthogonal to another one, and what they are in both: rows = parts^T [basis,
    new]. Once more where little is left of a row without `basis`, because rounding has put some of it back.

    [b, n], [k, n] -> [b, n], [k + b, b]
    """
    inside = basis @ rows.mT
    new, own, least, most = _orthonormal(torch.addmm(rows, inside.mT, basis, alpha=-1), inside)
    for _ in range(_MORE_PASSES):
        if least >= _LITTLE * most:
            break
        part = basis @ new.mT
        new, rest, least, most = _orthonormal(torch.addmm(new, part.mT, basis, alpha=-1), part)
        inside, own = inside + part @ own, rest @ own
    return new, torch.cat([inside, own])


def _orthonormal(rows: Tensor, taken: Tensor | None = None) -> tuple[Tensor, Tensor, float, float]:
    """An orthonormal basis of the rows, the rows in it, the least that one adds to those before it, and the most that
    was taken of one before: by Cholesky's factor of their products, in half the time of a QR, where rounding allows it,
    which it squares.

    [b, n], [k, b] -> [b, n], [b, b] with rows = second^T first
    """
    lower, failed = torch.linalg.cholesky_ex(rows @ rows.mT)
    before = rows.new_zeros(()) if taken is None or not len(taken) else torch.linalg.vector_norm(taken, dim=0).max()
    told = torch.stack([*torch.aminmax(lower.diagonal()), failed.to(before), before])  # the card is waited for once
    least, most, failed, before = told.tolist()
    if not failed and least >= _FAR * most > 0:
        one = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
        return torch.linalg.solve_triangular(lower, one, upper=False) @ rows, lower.mT, least, before
    new, rest = torch.linalg.qr(rows.mT)
    return new.mT, rest, rest.diagonal().abs().min().item(), before


def _decompose(matrix: Tensor, energy: float) -> Spectrum:
    """All singular values and vectors of a matrix with no more rows than columns: QR of its rows, and a small SVD."""
    right, core = torch.linalg.qr(matrix.mT)  # [in, k], [k, k]: matrix = core^T right^T
    u, s, vt = torch.linalg.svd(core.mT.cpu().double(), full_matrices=False)
    return Spectrum(u.to(right), s, vt.to(right) @ right.mT, tuple(matrix.shape), energy)


def _first(found: Spectrum, count: int) -> Spectrum:
    return replace(found, u=found.u[:, :count], s=found.s[:count], vt=found.vt[:count])
