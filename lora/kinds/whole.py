"""Adapters that hold a whole tensor: a difference that is added, and a value that replaces the weight."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .adapters import ConfigFacts, LoRAError, fitting_shape, fitting_weight, shape_mismatch


@dataclass(frozen=True, eq=False)
class Difference:
    """The tensor changes by `value`: LyCORIS' full (`diff`, `diff_b`) and norm (`w_norm`, `b_norm`), PEFT's lora_bias.

    value: the shape of the weight or bias. There is no alpha.
    """

    value: Tensor
    kind: str = "full difference"
    rank: ClassVar[int] = 0
    alpha: ClassVar[None] = None
    needs_weight: ClassVar[bool] = False

    @property
    def extent(self) -> tuple[int | None, int | None]:
        return extent_of(self.value.shape)

    def misfit(self, shape: Sequence[int]) -> str | None:
        return None if same_layer(self.value.shape, shape) else shape_mismatch(self.value.shape, shape)

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter; ComfyUI does the same."""
        return self.value.float().reshape(fitting_shape(self, weight)) * strength


@dataclass(frozen=True, eq=False)
class Replacement:
    """`value` replaces the tensor: PEFT's modules_to_save, BFL's norm scales. At strength t: W + t (value - W).

    ComfyUI replaces the tensor whatever the strength.
    """

    value: Tensor
    kind: ClassVar[str] = "replacement"
    rank: ClassVar[int] = 0
    alpha: ClassVar[None] = None
    needs_weight: ClassVar[bool] = True

    @property
    def extent(self) -> tuple[int | None, int | None]:
        return extent_of(self.value.shape)

    def misfit(self, shape: Sequence[int]) -> str | None:
        return None if same_layer(self.value.shape, shape) else shape_mismatch(self.value.shape, shape)

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter."""
        weight = fitting_weight(self, weight)
        value = self.value.float().to(weight.device).reshape(weight.shape)
        return (value - weight) * (1.0 if match_comfyui else strength)


def extent_of(shape: Sequence[int]) -> tuple[int | None, int | None]:
    """(out, in) of a weight's shape; a bias has no in."""
    return (shape[0] if shape else None), (shape[1] if len(shape) > 1 else None)


def same_layer(own: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether two shapes are equal, where a 1x1 convolution equals a Linear."""
    own, shape = list(own), list(shape)
    return own == shape or (
        len(own) > 1 < len(shape) and own[:2] == shape[:2] and math.prod(own[2:]) == 1 and math.prod(shape[2:]) == 1
    )


def build_norm_difference(name: str, parts: Mapping[str, Tensor], facts: ConfigFacts) -> Difference:
    """LyCORIS' difference of a normalisation layer, which reports call by a name of its own."""
    return Difference(parts["value"], "norm difference")


def marks_of_replacement(name: str, adapter: Replacement) -> dict[str, Tensor]:
    """No further tensors; LoRAError for a bias, whose replacement kohya has no suffix for."""
    if name.endswith(".bias"):
        raise LoRAError(f"{name} replaces a bias, which kohya files cannot say")
    return {}
