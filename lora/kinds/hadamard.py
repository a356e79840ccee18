"""LoHa: the elementwise product of two low-rank changes (FedPara, arXiv:2108.06098; LyCORIS modules/loha.py)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .adapters import LoRAError, fitting_shape, shape_mismatch


def tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The Tucker form of a kernel, in LyCORIS' names. [r, r, kh, kw], [r, out], [r, in] -> [out, in, kh, kw]"""
    return torch.einsum("ij...,jn,im->mn...", core.float(), b.float(), a.float())


@dataclass(frozen=True, eq=False)
class LoHa:
    """The weight changes by (alpha / rank) * (a1 @ b1) * (a2 @ b2), elementwise between the brackets.

    a [out, r] (or [out, r, 1, 1]), b [r, in * kh * kw] (or [r, in, kh, kw], OneTrainer). With cores t1 and t2
    [r, r, kh, kw] the brackets are Tucker forms, and a is [r, out], b [r, in]. `alpha` is finite.

    Raises:
        LoRAError: parts that do not belong together, or an alpha that is not a number.
    """

    a1: Tensor
    b1: Tensor
    a2: Tensor
    b2: Tensor
    alpha: float
    t1: Tensor | None = None
    t2: Tensor | None = None
    kind: ClassVar[str] = "LoHa"
    needs_weight: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if (self.t1 is None) != (self.t2 is None):
            raise LoRAError("a LoHa has one core of two: t1 and t2 come together")
        for a, b, core in ((self.a1, self.b1, self.t1), (self.a2, self.b2, self.t2)):
            if a.ndim < 2 or b.ndim < 2 or math.prod(a.shape[2:]) != 1 or not (a.numel() and b.numel()):
                raise LoRAError(f"a is {list(a.shape)} and b is {list(b.shape)}: expected [out, rank] and [rank, in]")
            rank = a.shape[1] if core is None else a.shape[0]
            if rank != b.shape[0] or (core is not None and (core.ndim < 3 or tuple(core.shape[:2]) != (rank, rank))):
                between = "" if core is None else f" and the core is {list(core.shape)}"
                raise LoRAError(f"a is {list(a.shape)}, b is {list(b.shape)}{between}: their ranks differ")
        cores = [core.shape for core in (self.t1, self.t2) if core is not None]
        if self.a1.shape != self.a2.shape or self.b1.shape != self.b2.shape or cores[:1] != cores[1:]:
            raise LoRAError(
                "the two halves of a LoHa have different shapes: "
                f"{list(self.a1.shape)} {list(self.b1.shape)}, {list(self.a2.shape)} {list(self.b2.shape)}"
            )
        if not math.isfinite(self.alpha):
            raise LoRAError(f"alpha is {self.alpha}: expected a finite number")

    @property
    def rank(self) -> int:
        return self.b1.shape[0]

    @property
    def extent(self) -> tuple[int, int | None]:
        flat = self.t1 is None and self.b1.ndim == 2  # b may hold a flattened kernel, with more columns than inputs
        return self.a1.shape[1 if self.t1 is not None else 0], None if flat else self.b1.shape[1]

    def misfit(self, shape: Sequence[int]) -> str | None:
        if self.t1 is None:
            own = [self.a1.shape[0], *self.b1.shape[1:]]
        else:
            own = [self.a1.shape[1], self.b1.shape[1], *self.t1.shape[2:]]
        return None if fits(own, shape) else shape_mismatch(own, shape)

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter; ComfyUI does the same (and raises for OneTrainer's four-dimensional parts)."""
        shape = fitting_shape(self, weight)
        one, two = _half(self.a1, self.b1, self.t1), _half(self.a2, self.b2, self.t2)
        return (one * two).reshape(shape) * (self.alpha / self.rank * strength)


def _half(a: Tensor, b: Tensor, core: Tensor | None) -> Tensor:
    """One of the two low-rank changes in fp32: a @ b, or the Tucker form with a core."""
    return a.float().flatten(1) @ b.float().flatten(1) if core is None else tucker(core, a, b)


def fits(own: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether the shapes are equal, or hold as many numbers where one kernel is flattened into the inputs or is 1x1."""
    own, shape = list(own), list(shape)
    if len(shape) < 2 or own[0] != shape[0] or math.prod(own[1:]) != math.prod(shape[1:]):
        return False
    return own == shape or len(own) == 2 or (len(own) != len(shape) and own[1] == shape[1])
