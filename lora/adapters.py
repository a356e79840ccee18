"""One low-rank adapter: the change of one weight, kept as two thin factors (LoRA, Hu et al. 2021, arXiv:2106.09685).

For convolutions this is LoCon; with a middle tensor it is LoCon's CP (Tucker) form (LyCORIS, arXiv:2309.14859).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class LoRAError(ValueError):
    """A LoRA that cannot be read, written, applied or injected; the message is one sentence for the user."""


@dataclass(frozen=True, eq=False)
class LoRA:
    """The weight changes by (alpha / rank) * up @ down; with `mid`, down and up are joined through its kernel.

    up [out, r] or [out, r, 1, 1]; down [r, in] or [r, in / groups, kh, kw]; mid None or [r, r, kh, kw], down then
    [r, in] or [r, in, 1, 1]. `alpha` is finite; a file without alpha means alpha = rank. Any floating dtype.

    Raises:
        LoRAError: factors whose ranks differ, or an alpha that is not a number.
    """

    up: Tensor
    down: Tensor
    alpha: float
    mid: Tensor | None = None

    def __post_init__(self) -> None:
        up, down, mid = self.up, self.down, self.mid
        if up.ndim < 2 or down.ndim < 2 or math.prod(up.shape[2:]) != 1 or not (up.numel() and down.numel()):
            raise LoRAError(f"up is {list(up.shape)} and down is {list(down.shape)}: "
                            "expected [out, rank] and [rank, in]")
        if mid is None and up.shape[1] != down.shape[0]:
            raise LoRAError(f"up is {list(up.shape)} and down is {list(down.shape)}: their ranks differ")
        if mid is not None and (mid.ndim < 3 or not mid.numel() or math.prod(down.shape[2:]) != 1):
            raise LoRAError(f"mid is {list(mid.shape)} and down is {list(down.shape)}: "
                            "expected [rank, rank, kh, kw] and [rank, in]")
        if mid is not None and mid.shape[:2] != (up.shape[1], down.shape[0]):
            raise LoRAError(f"mid is {list(mid.shape)} between up {list(up.shape)} and down {list(down.shape)}: "
                            "their ranks differ")
        if not math.isfinite(self.alpha):
            raise LoRAError(f"alpha is {self.alpha}: expected a finite number")

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def misfit(self, shape: Sequence[int]) -> str | None:
        """Why this adapter cannot change a weight of this shape, in words; None where it can.

        A 1x1 convolution and a Linear are the same thing, and a flat down [r, in * kh * kw] fits a convolution.
        """
        shape, kernel = list(shape), (self.down if self.mid is None else self.mid).shape[2:]
        own = [self.up.shape[0], self.down.shape[1], *kernel]
        fits = len(shape) >= 2 and shape[0] == own[0] and math.prod(shape[1:]) == math.prod(own[1:])
        if fits and len(kernel) == len(shape) - 2:
            fits = shape == own
        elif fits and math.prod(kernel) != 1:
            fits = False  # a real kernel that would have to be guessed into another number of dimensions
        return None if fits else f"the adapter is for a weight of shape {own}, the model's weight has shape {shape}"

    def delta(self, shape: Sequence[int], strength: float = 1.0) -> Tensor:
        """The change of a weight of this shape, in fp32, computed in fp32 whatever the factors are stored in.

        shape (out, in, ...) -> [out, in, ...]

        Raises:
            LoRAError: the weight has another size than the adapter was made for.
        """
        if reason := self.misfit(shape):
            raise LoRAError(reason)
        up, down = self.up.float().flatten(1), self.down.float().flatten(1)      # [out, r], [r, in * kh * kw]
        if self.mid is None:
            change = up @ down
        else:
            change = torch.einsum("mn...,om,ni->oi...", self.mid.float(), up, down)
        return (change * (self.scale * strength)).reshape(tuple(shape))
