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

_STEPS = 5  # blocks of half the wanted rank: 2.5 columns for each triple, an error within 1 % even on a flat spectrum
_LEAST_BLOCK, _BLOCK = 16, 32  # columns; the second where the rank is not known beforehand
_SEED = 20170501  # of the sketch: two runs on one device give equal bits

Enough = Callable[[Tensor, float], bool]


def spectrum_for(thin: Thin, most: int, enough: Enough | None = None) -> Spectrum:
    """The singular values and vectors of a change of any form: all of them from thin factors, of a dense one the
    leading ones, as `leading_spectrum` finds them.
    """
    return leading_spectrum(thin.change(), most, enough) if thin.dense else spectrum_of(thin)


def leading_spectrum(change: Tensor, most: int, enough: Enough | None = None) -> Spectrum:
    """The leading singular values and vectors of a dense change, at most so many, none of the values too large.

    Cut at `most`, the error is within 1 % of the optimum whatever the spectrum, and within a thousandth where something
    stands out. `enough(values, energy)` may end it earlier: it is asked with the values that are known well so far. A
    change with few rows or columns is decomposed whole. Computed in fp32 (a change in fp64 in that) where the change
    is, the small cores in fp64 on the CPU.

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
    block = _BLOCK if enough else max(_LEAST_BLOCK, -(-most // 2))
    steps = _STEPS - 1 if enough else _STEPS
    krylov = _Krylov(change, min(block, side))
    while 2 * steps * block < side:
        krylov.grow(steps)
        found = krylov.decompose(energy)
        known = most if enough is None else min(most, 2 * len(found.s) // _STEPS)
        if known == most or (enough is not None and enough(found.s[:known], energy)):
            return _first(found, known)
        steps = -(-3 * steps // 2)
    return _first(_decompose(change, energy), most)


class _Krylov:
    """The growing orthonormal bases of a change's columns (`left`) and rows (`right`), from a random block of rows."""

    def __init__(self, change: Tensor, block: int) -> None:
        random = torch.Generator("cpu").manual_seed(_SEED)
        sketch = torch.randn(change.shape[1], block, generator=random, device="cpu", dtype=torch.float32)
        self.change, self.next = change, torch.linalg.qr(sketch.to(change.device, change.dtype)).Q
        self.left = change.new_zeros(change.shape[0], 0)  # [out, k]
        self.right = change.new_zeros(change.shape[1], 0)  # [in, k]
        self.images = change.new_zeros(change.shape[1], 0)  # [in, k]: change^T left

    def grow(self, steps: int) -> None:
        """Add blocks until there are so many."""
        for _ in range(steps - self.left.shape[1] // self.next.shape[1]):
            self.right = torch.cat([self.right, self.next], 1)
            new = _apart(self.change @ self.next, self.left)
            image = self.change.mT @ new
            self.left, self.images = torch.cat([self.left, new], 1), torch.cat([self.images, image], 1)
            self.next = _apart(image, self.right)

    def decompose(self, energy: float) -> Spectrum:
        """The singular values and vectors of the change within the basis of its columns."""
        found = _decompose(self.images.mT, energy)
        return replace(found, u=self.left @ found.u)


def _apart(columns: Tensor, basis: Tensor) -> Tensor:
    """An orthonormal basis of the columns, orthogonal to another one; twice, because once leaves a rounding error."""
    for _ in range(2 if basis.shape[1] else 0):
        columns = columns - basis @ (basis.mT @ columns)
    return torch.linalg.qr(columns).Q


def _decompose(matrix: Tensor, energy: float) -> Spectrum:
    """All singular values and vectors of a matrix with no more rows than columns: QR of its rows, and a small SVD."""
    right, core = torch.linalg.qr(matrix.mT)  # [in, k], [k, k]: matrix = core^T right^T
    u, s, vt = torch.linalg.svd(core.mT.cpu().double(), full_matrices=False)
    return Spectrum(u.to(right), s, vt.to(right) @ right.mT, tuple(matrix.shape), energy)


def _first(found: Spectrum, count: int) -> Spectrum:
    return replace(found, u=found.u[:, :count], s=found.s[:count], vt=found.vt[:count])
