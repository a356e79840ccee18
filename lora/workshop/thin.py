"""Thin factors: the exact change that an adapter of any kind makes, as a product up @ down.

LoRA is that already. LoHa is a Khatri-Rao product of its factors, LoKr a Kronecker product of them, so both are exact
without a decomposition. A full difference has no thin factors; its form is the change itself, and says so (`dense`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..kinds.adapters import Adapter, LoRA, LoRAError, fitting_shape
from ..kinds.hadamard import LoHa
from ..kinds.kronecker import LoKr
from ..kinds.magnitude import DoRA, GLoRA
from ..kinds.whole import Difference
from ..kinds.widening import Widening
from ..models.rows import RowsOf, Swapped

NEEDS_BASE = "{} depends on the weight itself: connect the model that it was trained on, or leave this file out"


@dataclass(frozen=True, eq=False)
class Thin:
    """The weight of this shape changes by up @ down.

    up [out, r], down [r, in * kh * kw], of one floating type and device; `shape` is that of the weight, [out, in, kh,
    kw], [out, in] or [out] (down is [1, 1] then). `dense`: the change has no thin factors, one of the two is the
    identity and the other is the change, so r is the smaller side of the weight.

    Raises:
        LoRAError: factors that do not belong together, or that are not of a weight of this shape.
    """

    up: Tensor
    down: Tensor
    shape: tuple[int, ...]
    dense: bool = False

    def __post_init__(self) -> None:
        own = [self.up.shape[0], self.down.shape[-1]]
        if self.up.ndim != 2 or self.down.ndim != 2 or self.up.shape[1] != self.down.shape[0]:
            raise LoRAError(f"up is {list(self.up.shape)} and down is {list(self.down.shape)}: their ranks differ")
        if own != list(flat_shape(self.shape)):
            raise LoRAError(f"the factors are of a matrix {own}, the weight is {list(self.shape)}")

    @property
    def rank(self) -> int:
        return self.up.shape[1]

    @property
    def numbers(self) -> int:
        """How many numbers the factors have, or the change itself where it is dense."""
        return math.prod(self.shape) if self.dense else self.up.numel() + self.down.numel()

    def matrix(self) -> Tensor:
        """The change as a matrix, which for a large weight is large. -> [out, in * kh * kw]"""
        if not self.dense:
            return self.up @ self.down
        return self.down if self.up.shape[0] == self.up.shape[1] and self.up.shape[0] <= self.down.shape[1] else self.up

    def change(self) -> Tensor:
        """The change in the weight's own shape. -> `shape`"""
        return self.matrix().reshape(self.shape)

    def times(self, strength: float) -> "Thin":
        """The change at a strength, which may be negative."""
        if self.dense:
            return dense_thin(self.matrix() * strength, self.shape)
        return self if strength == 1.0 else replace(self, up=self.up * strength)

    def to(self, dtype: torch.dtype) -> "Thin":
        """The same factors in another type."""
        return replace(self, up=self.up.to(dtype), down=self.down.to(dtype))


def flat_shape(shape: Sequence[int]) -> tuple[int, int]:
    """The matrix that a weight is: [out, in, kh, kw] -> (out, in * kh * kw); a bias is a column."""
    return (shape[0] if shape else 1), math.prod(shape[1:])


def dense_thin(change: Tensor, shape: Sequence[int]) -> Thin:
    """A change without thin factors. [out, ...] of this shape -> Thin, whose smaller factor is the identity

    A vector is no dense change: its factors are itself and a one.
    """
    flat = change.reshape(flat_shape(shape))
    out, columns = flat.shape
    eye = torch.eye(min(out, columns), dtype=flat.dtype, device=flat.device)
    many = columns > 1 < out
    return Thin(eye, flat, tuple(shape), many) if out <= columns else Thin(flat, eye, tuple(shape), many)


def why_not_thin(adapter: Adapter) -> str | None:
    """Why the change cannot be had without the base weight, in one sentence; None where it can.

    >>> why_not_thin(LoRA(torch.ones(4, 1), torch.ones(1, 3), 1.0)) is None
    True
    """
    return NEEDS_BASE.format(adapter.kind) if adapter.needs_weight else None


def thin_of(
    adapter: Adapter,
    shape: Sequence[int] | None = None,
    weight: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Thin:
    """Thin_of gives the exact change of an adapter at strength 1, its scale included, as thin factors.

    Args:
        adapter: of any kind.
        shape: of the weight, [out, in, ...]; by default the one that the adapter's tensors tell.
        weight: the base weight, which GLoRA, DoRA, OFT, BOFT, (IA)^3 and a replacement need; others need none.
        dtype: of the factors, and of the arithmetic; fp32 or fp64.

    Returns:
        The factors, on the adapter's device (on the weight's where it is needed). LoRA keeps its rank; LoHa has r1 *
        r2, LoKr the product of the ranks of its two matrices, GLoRA 2 r; what would have at least the rank of the
        weight, and every other kind, is dense.

    Raises:
        LoRAError: the adapter does not fit the shape, or it needs the weight and there is none.

    >>> thin_of(LoRA(torch.ones(4, 2), torch.ones(2, 3), 1.0)).change()[0].tolist()
    [1.0, 1.0, 1.0]
    """
    if weight is not None:
        shape = tuple(weight.shape)
    if adapter.needs_weight and weight is None:
        raise LoRAError(NEEDS_BASE.format(adapter.kind))
    known = fitting_shape(adapter, own_shape(adapter) if shape is None else shape)
    if isinstance(adapter, Widening):
        return thin_of(adapter.inner, adapter.shape, dtype=dtype)
    if isinstance(adapter, Swapped) and not adapter.needs_weight:
        inner = thin_of(adapter.inner, known, dtype=dtype)
        return dense_or(replace(inner, up=torch.cat(inner.up.chunk(2)[::-1]), dense=False))
    if isinstance(adapter, RowsOf):
        inner = thin_of(adapter.inner, (adapter.total, *known[1:]), dtype=dtype)
        return dense_or(Thin(inner.up.narrow(0, adapter.first, adapter.rows), inner.down, known))
    if (pair := _factors(adapter, weight, dtype)) is not None:
        return dense_or(Thin(*pair, known))
    change = adapter.delta(known if weight is None else weight)
    return dense_thin(change.to(dtype), known)


def dense_or(thin: Thin) -> Thin:
    """The same change, as a dense one where its factors have as many numbers as the change itself."""
    out, columns = thin.up.shape[0], thin.down.shape[1]
    full = thin.rank >= min(out, columns) and out > 1 < columns
    return dense_thin(thin.matrix(), thin.shape) if full and not thin.dense else thin


def own_shape(adapter: Adapter) -> tuple[int, ...]:
    """The shape of the weight that the adapter's own tensors tell; a flattened kernel stays flat.

    Raises:
        LoRAError: the tensors do not tell it.
    """
    if isinstance(adapter, Widening):
        return adapter.shape
    if isinstance(adapter, RowsOf):
        return (adapter.rows, *own_shape(adapter.inner)[1:])
    if isinstance(adapter, Swapped | DoRA):
        return own_shape(adapter.inner)
    if isinstance(adapter, Difference):
        return tuple(adapter.value.shape)
    if isinstance(adapter, LoRA):
        return (*adapter.extent, *(adapter.down if adapter.mid is None else adapter.mid).shape[2:])
    if isinstance(adapter, LoHa) and adapter.t1 is not None:
        return (adapter.a1.shape[1], adapter.b1.shape[1], *adapter.t1.shape[2:])
    if isinstance(adapter, LoHa):
        return (adapter.a1.shape[0], *adapter.b1.shape[1:])
    if isinstance(adapter, LoKr):
        return tuple(adapter.own_shape())
    kind = adapter.kind
    raise LoRAError(f"the tensors of a {kind} do not tell the shape of its weight: give the weight or its shape")


def _factors(adapter: Adapter, weight: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """up [out, r] and down [r, in * kh * kw] with the scale in them; None for a kind that has no thin factors."""
    if isinstance(adapter, GLoRA) and weight is not None:
        return _of_glora(adapter, weight, dtype)
    pair = _parts(adapter, dtype)
    if pair is None or not isinstance(adapter, LoRA | LoHa | LoKr):
        return None
    scale = adapter.scale if isinstance(adapter, LoRA | LoKr) else adapter.alpha / adapter.rank
    return pair[0] * scale, pair[1].flatten(1)


def _parts(adapter: Adapter, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor] | None:
    """up [out, r] and down [r, in, ...] without the scale, for the kinds that are a product of their tensors."""
    if isinstance(adapter, LoRA):
        up, down = adapter.up.to(dtype).flatten(1), adapter.down.to(dtype)
        if adapter.mid is not None:
            return up, torch.einsum("mn...,ni->mi...", adapter.mid.to(dtype), down.flatten(1))
        return up, down
    if isinstance(adapter, LoHa):
        (a1, b1), (a2, b2) = (_half(*half, dtype) for half in _halves(adapter))
        up = torch.einsum("op,oq->opq", a1, a2).flatten(1)  # [out, r * r]: Khatri-Rao, row by row
        return up, torch.einsum("pn...,qn...->pqn...", b1, b2).flatten(0, 1)
    if isinstance(adapter, LoKr):
        p1, q1 = _matrix(adapter.w1, adapter.w1_a, adapter.w1_b, None, dtype)
        p2, q2 = _matrix(adapter.w2, adapter.w2_a, adapter.w2_b, adapter.t2, dtype)
        q1 = q1.reshape(*q1.shape, *[1] * (q2.ndim - 2))
        return torch.kron(p1.contiguous(), p2.contiguous()), torch.kron(q1, q2.contiguous())
    return None


def _halves(loha: LoHa) -> tuple[tuple[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor | None]]:
    return (loha.a1, loha.b1, loha.t1), (loha.a2, loha.b2, loha.t2)


def _half(a: Tensor, b: Tensor, core: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """One of the two low-rank matrices of a LoHa. -> [out, r], [r, in, ...]"""
    if core is None:
        return a.to(dtype).flatten(1), b.to(dtype)
    return a.to(dtype).mT.contiguous(), torch.einsum("ij...,jn->in...", core.to(dtype), b.to(dtype))


def _matrix(
    whole: Tensor | None, a: Tensor | None, b: Tensor | None, core: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """A matrix of a LoKr as a product of the least rank that is free: its own factors, or itself and an identity.

    -> [o, r], [r, i, ...]
    """
    if whole is None and a is not None and b is not None:
        if core is None:
            left, right = a.to(dtype), b.to(dtype)
        else:
            left, right = _half(a, b, core, dtype)
        if left.shape[1] <= min(left.shape[0], math.prod(right.shape[1:])):
            return left, right
        whole = torch.tensordot(left, right, dims=1)
    if whole is None:
        raise LoRAError("a matrix of a LoKr has neither its values nor both factors")
    whole = whole.to(dtype)
    out, columns = whole.shape[0], math.prod(whole.shape[1:])
    eye = torch.eye(min(out, columns), dtype=dtype, device=whole.device)
    return (eye, whole) if out <= columns else (whole.flatten(1), eye.reshape(columns, *whole.shape[1:]))


def _of_glora(adapter: GLoRA, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """W a_in a_out + up down, exactly: for a kernel every one of its cells is a column of the first factor."""
    chosen = next(iter(adapter.readings(weight.shape)))
    a_in, a_out, up, down = (part.to(weight.device, dtype).flatten(1) for part in chosen)
    cells = math.prod(weight.shape[2:])
    left = torch.einsum("oic,ir->orc", weight.to(dtype).reshape(*weight.shape[:2], cells), a_in).flatten(1)
    right = torch.kron(a_out, torch.eye(cells, dtype=dtype, device=weight.device))  # [r * cells, in * cells]
    scale = adapter.alpha / adapter.rank
    return torch.cat([left, up], 1) * scale, torch.cat([right, down])
