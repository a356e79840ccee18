"""LoKr: the Kronecker product of a small and a larger matrix (KronA, arXiv:2212.10650; LyCORIS modules/lokr.py)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .adapters import LoRAError, fitting_shape, shape_mismatch
from .hadamard import fits, tucker


@dataclass(frozen=True, eq=False)
class LoKr:
    """The weight changes by scale * kron(w1, w2).

    w1 [o1, i1] is stored whole or as w1_a @ w1_b; w2 [o2, i2] or [o2, i2, kh, kw] whole, as w2_a [o2, r] @ w2_b
    [r, i2 * kh * kw], or with t2 [r, r, kh, kw] as a Tucker form of w2_a [r, o2] and w2_b [r, i2]. scale is alpha /
    rank of the factored part (of w2 where both are), and 1 where both are whole, whatever alpha says.

    Raises:
        LoRAError: a missing half, parts that do not belong together, or an alpha that is not a number.
    """

    alpha: float
    w1: Tensor | None = None
    w1_a: Tensor | None = None
    w1_b: Tensor | None = None
    w2: Tensor | None = None
    w2_a: Tensor | None = None
    w2_b: Tensor | None = None
    t2: Tensor | None = None
    kind: ClassVar[str] = "LoKr"
    needs_weight: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, whole, a, b in (("w1", self.w1, self.w1_a, self.w1_b), ("w2", self.w2, self.w2_a, self.w2_b)):
            parts = [part for part in (whole, a, b) if part is not None]
            if [whole is None, a is None, b is None] not in ([False, True, True], [True, False, False]):
                raise LoRAError(f"{name} of a LoKr has to come whole or as two factors, it has {len(parts)} parts")
            if any(part.ndim < 2 or not part.numel() for part in parts):
                raise LoRAError(
                    f"{name} of a LoKr is {' and '.join(str(list(p.shape)) for p in parts)}: expected matrices"
                )
        if self.w1_a is not None and self.w1_b is not None:
            _check_ranks("w1", self.w1_a.shape[1], self.w1_b.shape[0], None)
        if any(part is not None and part.ndim != 2 for part in (self.w1, self.w1_a, self.w1_b, self.w2_a, self.w2_b)):
            raise LoRAError("only w2 of a LoKr may be a convolution's kernel, its other parts are matrices")
        if self.w2_a is not None and self.w2_b is not None:
            _check_ranks("w2", self.w2_a.shape[1 if self.t2 is None else 0], self.w2_b.shape[0], self.t2)
        elif self.t2 is not None:
            raise LoRAError("a LoKr has a core (t2) but its w2 is whole")
        if not math.isfinite(self.alpha):
            raise LoRAError(f"alpha is {self.alpha}: expected a finite number")

    @property
    def rank(self) -> int:
        factor = self.w2_b if self.w2_b is not None else self.w1_b
        return 0 if factor is None else factor.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank if self.rank else 1.0

    @property
    def extent(self) -> tuple[int, int | None]:
        own = self.own_shape()
        flat = self.w2 is None and self.t2 is None
        return own[0], None if flat else own[1]

    def own_shape(self) -> list[int]:
        """The shape of the product: that of a Kronecker product is the product of the shapes."""
        (o1, i1), (o2, i2, *kernel) = _shape(self.w1, self.w1_a, self.w1_b), _shape(*self._second())
        return [o1 * o2, i1 * i2, *kernel]

    def _second(self) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        return self.w2, self.w2_a, self.w2_b, self.t2

    def misfit(self, shape: Sequence[int]) -> str | None:
        own = self.own_shape()
        return None if fits(own, shape) else shape_mismatch(own, shape)

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter; ComfyUI does the same, but skips the Tucker form with a line in its log."""
        shape = fitting_shape(self, weight)
        w1, w2 = self.matrices()
        w1 = w1.reshape(*w1.shape, *[1] * (w2.ndim - 2))
        return torch.kron(w1, w2.contiguous()).reshape(shape) * (self.scale * strength)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """The two matrices whose Kronecker product it is, without the scale, in fp32. -> [o1, i1], [o2, i2, ...]"""
        return _value(self.w1, self.w1_a, self.w1_b), _value(*self._second())


def _shape(whole: Tensor | None, a: Tensor | None, b: Tensor | None, core: Tensor | None = None) -> tuple[int, ...]:
    """The shape of a matrix that is stored whole, or as two factors, or as a Tucker form."""
    if whole is not None:
        return tuple(whole.shape)
    if a is None or b is None:
        raise LoRAError("a matrix of a LoKr has neither its values nor both factors")
    return (a.shape[0], b.shape[1]) if core is None else (a.shape[1], b.shape[1], *core.shape[2:])


def _value(whole: Tensor | None, a: Tensor | None, b: Tensor | None, core: Tensor | None = None) -> Tensor:
    """The same matrix in fp32."""
    if whole is not None:
        return whole.float()
    if a is None or b is None:
        raise LoRAError("a matrix of a LoKr has neither its values nor both factors")
    return a.float() @ b.float() if core is None else tucker(core, a, b)


def _check_ranks(name: str, left: int, right: int, core: Tensor | None) -> None:
    if left != right or (core is not None and (core.ndim < 3 or tuple(core.shape[:2]) != (left, left))):
        between = "" if core is None else f", the core is {list(core.shape)}"
        raise LoRAError(f"the factors of {name} have ranks {left} and {right}{between}: their ranks differ")
