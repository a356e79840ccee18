"""Algebra of exact changes on their thin factors: products, sums, singular values; in fp64, without the dense matrix.

The sum of changes is their factors side by side. Two QR decompositions and the SVD of a small core give its singular
values exactly, and the best change of a lower rank.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kinds.adapters import LoRAError
from ..weights.low_rank import frobenius
from .thin import Thin, dense_or, dense_thin


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A change as u * s @ vt, with orthonormal columns of u and rows of vt, and s >= 0, largest first.

    u [out, n], s [n], vt [n, in * kh * kw]; `shape` is that of the weight. total: the squared norm of the change where
    these are its leading parts alone; None where they are all of it.
    """

    u: Tensor
    s: Tensor
    vt: Tensor
    shape: tuple[int, ...]
    total: float | None = None

    @property
    def energy(self) -> float:
        """The squared Frobenius norm of the change."""
        return self.s.square().sum().item() if self.total is None else self.total

    def cut(self, rank: int, dtype: torch.dtype = torch.float32) -> Thin:
        """The best change of at most this rank, with the square roots of the singular values in both factors.

        Raises:
            LoRAError: a rank below 1.
        """
        if rank < 1:
            raise LoRAError(f"the rank is {rank}: expected 1 or more")
        kept = min(rank, len(self.s))
        root = self.s[:kept].sqrt().to(self.u)
        up, down = self.u[:, :kept] * root, root[:, None] * self.vt[:kept]
        return Thin(up.to(dtype), down.to(dtype), self.shape)

    def lost(self, rank: int) -> float:
        """The norm of what a cut to this rank leaves out, over that of the change; 0 for a change of nothing."""
        return math.sqrt(self.left_over(rank) / self.energy) if self.energy else 0.0

    def left_over(self, rank: int) -> float:
        """The squared norm of what a cut to this rank leaves out; right to some 1e-7 of the energy where `total`."""
        squares = self.s.square()
        if self.total is None:
            return squares[max(0, rank) :].sum().item()
        return max(0.0, self.total - squares[: max(0, rank)].sum().item())

    def effective_rank(self) -> int:
        """The number of singular values above the rounding of fp64."""
        if not len(self.s):
            return 0
        least = self.s[0] * max(self.u.shape[0], self.vt.shape[1]) * torch.finfo(torch.float64).eps
        return int((self.s > least).sum().item())


def spectrum_of(thin: Thin) -> Spectrum:
    """The exact singular value decomposition of a change, from its factors; of a dense one from the matrix itself.

    The QR decompositions and the SVD of the core [r, r] are in fp64, on the factors' device (on the CPU where the
    device has no fp64).
    """
    wide = _doubled(thin)
    if wide.dense:
        u, s, vt = torch.linalg.svd(wide.matrix(), full_matrices=False)
        return Spectrum(u, s, vt, thin.shape)
    left, right = torch.linalg.qr(wide.up), torch.linalg.qr(wide.down.mT)
    u, s, vt = torch.linalg.svd(left.R @ right.R.mT, full_matrices=False)
    return Spectrum(left.Q @ u, s, vt @ right.Q.mT, thin.shape)


def inner(one: Thin, other: Thin) -> float:
    """The inner product of two changes of one weight, sum of one * other; from Gram matrices in fp64.

    Raises:
        LoRAError: changes of weights of different sizes.
    """
    _check_alike([one, other])
    one, other = _doubled(one), _doubled(other)
    if one.dense or other.dense:
        return _dense_inner(one, other)
    return ((one.up.mT @ other.up) * (one.down @ other.down.mT)).sum().item()


def _dense_inner(one: Thin, other: Thin) -> float:
    """Where one is dense, the other's factors meet it: down * (up^T @ dense), never a second dense matrix."""
    if one.dense and other.dense:
        return (one.matrix() * other.matrix()).sum().item()
    dense, thin = (one, other) if one.dense else (other, one)
    return ((thin.up.mT @ dense.matrix()) * thin.down).sum().item()


def norm_of(thin: Thin) -> float:
    """The Frobenius norm of a change."""
    return frobenius(thin.matrix()) if thin.dense else math.sqrt(max(0.0, inner(thin, thin)))


def gram(thins: Sequence[Thin]) -> Tensor:
    """The inner products of all pairs of changes of one weight. N -> [N, N], fp64, on the CPU

    Raises:
        LoRAError: changes of weights of different sizes.
    """
    _check_alike(thins)
    found = torch.zeros(len(thins), len(thins), dtype=torch.float64, device="cpu")
    wide = [_doubled(thin) for thin in thins]
    for row, one in enumerate(wide):
        for column in range(row, len(wide)):
            found[row, column] = found[column, row] = inner(one, wide[column])
    return found


def add(thins: Sequence[Thin], strengths: Sequence[float]) -> Thin:
    """The sum of changes of one weight at strengths: the factors side by side, so that nothing is lost.

    A sum whose factors would be as large as the change becomes a dense one.

    Raises:
        LoRAError: no changes, as many strengths as changes are missing, or changes of weights of different sizes.
    """
    if not thins or len(thins) != len(strengths):
        raise LoRAError(f"{len(thins)} changes come with {len(strengths)} strengths: expected one for each")
    _check_alike(thins)
    shape = max((thin.shape for thin in thins), key=len)  # a flat kernel takes the shape that another one tells
    if any(thin.dense for thin in thins):
        total = thins[0].matrix() * strengths[0]
        for thin, strength in zip(thins[1:], strengths[1:]):
            total = total + thin.matrix() * strength
        return dense_thin(total, shape)
    up = torch.cat([thin.up * strength for thin, strength in zip(thins, strengths)], 1)
    return dense_or(Thin(up, torch.cat([thin.down for thin in thins]), shape))


def overlap(one: Thin, other: Thin, *, of_inputs: bool = False) -> tuple[float, float]:
    """How far two changes write into (or read from) the same directions, and what chance gives; both 0 to 1.

    |Q1^T Q2|^2 / min(r1, r2) of orthonormal bases of the column (row) spaces; two random spaces of ranks r1 and r2 in
    m dimensions have max(r1, r2) / m.
    """
    first, second = (_basis(thin, of_inputs) for thin in (one, other))
    if not first.shape[1] or not second.shape[1]:
        return 0.0, 0.0
    ranks = first.shape[1], second.shape[1]
    shared = (first.mT @ second).square().sum().item() / min(ranks)
    return min(1.0, shared), max(ranks) / first.shape[0]


def _basis(thin: Thin, of_inputs: bool) -> Tensor:
    """An orthonormal basis of the outputs (inputs) that a change has. -> [m, rank]"""
    found = spectrum_of(thin)
    rank = found.effective_rank()
    return found.vt[:rank].mT if of_inputs else found.u[:, :rank]


def _doubled(thin: Thin) -> Thin:
    """The same factors in fp64, on the CPU where their device has no such type."""
    if thin.up.device.type == "mps":
        return Thin(thin.up.cpu().double(), thin.down.cpu().double(), thin.shape, thin.dense)
    return thin if thin.up.dtype == torch.float64 else thin.to(torch.float64)


def _check_alike(thins: Sequence[Thin]) -> None:
    sizes = sorted({(thin.up.shape[0], thin.down.shape[1]) for thin in thins})
    if len(sizes) > 1:
        raise LoRAError(f"changes of different weights cannot be put together: {' and '.join(map(str, sizes))}")
