"""Control LoRAs: a LoRA of a layer that reads more inputs than the model's own, which gets zeros for the new ones.

Black Forest Labs' canny and depth LoRAs of Flux widen `img_in` from 64 to 128 columns, the second half of which reads
the control picture; others name the new shape in `reshape_weight` (ComfyUI comfy/weight_adapter/lora.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import pad

from .adapters import LoRA, LoRAError, fitting_shape, shape_mismatch


@dataclass(frozen=True, eq=False)
class Widening:
    """The weight gets zeros up to `shape`, and then changes by the inner LoRA, which is of that shape.

    Raises:
        LoRAError: a shape that the inner LoRA does not have.
    """

    inner: LoRA
    shape: tuple[int, ...]
    needs_weight: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if reason := self.inner.misfit(self.shape):
            raise LoRAError(f"its reshape_weight is {list(self.shape)}: {reason}")

    @property
    def kind(self) -> str:
        return self.inner.kind

    @property
    def rank(self) -> int:
        return self.inner.rank

    @property
    def alpha(self) -> float:
        return self.inner.alpha

    @property
    def extent(self) -> tuple[int, int]:
        return self.inner.extent

    def misfit(self, shape: Sequence[int]) -> str | None:
        own, shape = self.shape, tuple(shape)
        fits = len(own) == len(shape) and own[0] == shape[0] and all(new >= old for new, old in zip(own, shape))
        return None if fits else shape_mismatch(own, shape)

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter; the change is that of the widened weight. [out, in, ...] or its shape -> `shape`"""
        fitting_shape(self, weight)
        return self.inner.delta(self.shape, strength)

    def widened(self) -> LoRA:
        """The inner LoRA with its `down` in the dimensions of the widened weight."""
        down = self.inner.down
        if self.inner.mid is not None or down.ndim == len(self.shape):
            return self.inner
        return replace(self.inner, down=down.reshape(len(down), *self.shape[1:]))


def widen(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """The weight with zeros after its own numbers along each dimension; the weight itself where it has the shape.

    Raises:
        LoRAError: the shape is smaller somewhere.
    """
    if tuple(weight.shape) == tuple(shape):
        return weight
    if weight.ndim != len(shape) or any(new < old for new, old in zip(shape, weight.shape)):
        raise LoRAError(shape_mismatch(shape, weight.shape))
    return pad(weight, [n for new, old in zip(reversed(shape), reversed(weight.shape)) for n in (0, new - old)])


def inside(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """The numbers of a widened weight that it had before, as a view. -> `shape`"""
    for axis, size in enumerate(shape):
        weight = weight.narrow(axis, 0, size)
    return weight


def pad_inputs(lora: LoRA, shape: Sequence[int]) -> LoRA:
    """The same change of a weight that has been widened to `shape`: zeros for the new inputs.

    Raises:
        LoRAError: a LoRA whose `down` is flat or has a middle tensor, for a kernel.
    """
    if lora.down.shape[1:] == tuple(shape[1:]) or math.prod(lora.down.shape[1:]) == math.prod(shape[1:]):
        return lora
    if lora.mid is not None or lora.down.ndim != len(shape):
        raise LoRAError("a change of the layer that a control LoRA widens has another form: use one of the two LoRAs")
    return replace(lora, down=widen(lora.down, (len(lora.down), *shape[1:])))


def widening_of(adapter: object, shape: Sequence[int]) -> Widening | None:
    """The adapter as one that widens a matrix of this shape to a multiple of its inputs; None where it is not that."""
    if not isinstance(adapter, LoRA) or adapter.mid is not None or adapter.down.ndim != 2 or len(shape) != 2:
        return None
    out, inputs = adapter.extent
    return Widening(adapter, (out, inputs)) if out == shape[0] and inputs > shape[1] and not inputs % shape[1] else None


def shape_of_parts(numbers: Tensor) -> tuple[int, ...]:
    """The shape in a `reshape_weight`.

    Raises:
        LoRAError: it is not a list of a few positive whole numbers.
    """
    found = [float(number) for number in numbers.flatten()[:8].tolist()]
    if not 2 <= numbers.numel() <= 5 or not all(0 < number < 2**31 and number == int(number) for number in found):
        raise LoRAError(f"its reshape_weight is {found}: expected the shape of a weight")
    return tuple(int(number) for number in found)
