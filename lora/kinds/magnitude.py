"""Adapters that scale a weight's rows or columns, or mix its inputs: DoRA, (IA)^3 and GLoRA. All need the weight."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .adapters import Adapter, ConfigFacts, LoRAError, fitting_weight, shape_mismatch
from .hadamard import fits


@dataclass(frozen=True, eq=False)
class DoRA:
    """DoRA gives rows or columns a magnitude: V = W + inner change, W' = V * magnitude / |V|; at t: W + t (W' - W).

    (arXiv:2402.09353.) |V| is a norm for each output row or for each input column. Which, the trainer's shape tells:
    `dora_scale` (out, 1, ...) is rows (LyCORIS' default since 2.2, OneTrainer's `decompose_output_axis`), (1, in, ...)
    is columns (OneTrainer's default, older LyCORIS); PEFT's `lora_magnitude_vector` (out,) or (1, out, 1, 1) is always
    rows, so `always_rows` says that its second dimension is not the input.

    ComfyUI: divides by |W| instead of |V| on rows; drops PEFT's magnitude and applies the inner change alone.

    Raises:
        LoRAError: the magnitude is neither a row nor a column, or the inner change depends on the weight (GLoRA may).
    """

    inner: Adapter
    magnitude: Tensor
    always_rows: bool = False
    needs_weight: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if sum(n > 1 for n in self.magnitude.shape) > 1 or not self.magnitude.numel():
            raise LoRAError(f"the magnitude of a DoRA is {list(self.magnitude.shape)}: expected one row or one column")
        if self.inner.needs_weight and self.inner.kind != "GLoRA":
            raise LoRAError(f"{self.inner.kind} inside a DoRA: no trainer makes that")

    @property
    def kind(self) -> str:
        return f"DoRA of {self.inner.kind}"

    @property
    def rank(self) -> int:
        return self.inner.rank

    @property
    def alpha(self) -> float | None:
        return self.inner.alpha

    @property
    def extent(self) -> tuple[int | None, int | None]:
        return self.inner.extent

    def _axis(self, shape: Sequence[int]) -> int | None:
        """The axis of the magnitude: 0 for rows, 1 for columns, None where it fits neither."""
        count, by_shape = self.magnitude.numel(), self.magnitude.ndim > 1 and self.magnitude.shape[1] != 1
        if by_shape and not self.always_rows:
            return 1 if count == shape[1] else None
        if count == shape[0]:
            return 0
        lone = self.magnitude.ndim < 2 or self.magnitude.shape[0] == 1
        return 1 if lone and count == shape[1] else None

    def misfit(self, shape: Sequence[int]) -> str | None:
        if reason := self.inner.misfit(shape):
            return reason
        if self._axis(shape) is None:
            return f"the magnitude is {list(self.magnitude.shape)}, the model's weight has shape {list(shape)}"
        return None

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter."""
        weight = fitting_weight(self, weight)
        axis = self._axis(weight.shape)
        inner = self.inner.delta(weight, match_comfyui=match_comfyui).to(weight.device)
        if match_comfyui and self.always_rows:
            return inner * strength
        moved = weight + inner
        measured = weight if match_comfyui and axis == 0 else moved
        others = [n for n in range(weight.ndim) if n != axis]
        norm = torch.linalg.vector_norm(measured, dim=others, keepdim=True) + torch.finfo(torch.float32).eps
        magnitude = self.magnitude.float().to(weight.device).reshape(norm.shape)
        return (moved * (magnitude / norm) - weight) * strength


@dataclass(frozen=True, eq=False)
class IA3:
    """Rows (or, on the input, columns) of the weight are multiplied by 1 + factors (arXiv:2205.05638).

    LyCORIS stores `factors` in `.weight` (dim,) or (1, dim, 1, 1). PEFT stores 1 + factors in `ia3_l` and, on rows,
    also multiplies the bias (`with_bias`). Its convolutions do not tell which it is: `on_input` None means rows where
    they are as many as the factors. At strength t: 1 + t * factors. ComfyUI does not read this kind.

    Raises:
        LoRAError: factors of more than one dimension.
    """

    factors: Tensor
    on_input: bool | None
    with_bias: bool = False
    kind: ClassVar[str] = "(IA)^3"
    rank: ClassVar[int] = 0
    alpha: ClassVar[None] = None
    needs_weight: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if sum(n > 1 for n in self.factors.shape) > 1 or not self.factors.numel():
            raise LoRAError(f"the factors of an (IA)^3 are {list(self.factors.shape)}: expected one row or one column")

    @property
    def extent(self) -> tuple[int | None, int | None]:
        count = self.factors.numel()
        return (None, None) if self.on_input is None else (None, count) if self.on_input else (count, None)

    def axis(self, shape: Sequence[int]) -> int | None:
        """The axis of the factors: 0 for rows, 1 for columns, None where their number fits neither."""
        axes = (0, 1) if self.on_input is None else (1,) if self.on_input else (0,)
        return next((axis for axis in axes if len(shape) > axis and shape[axis] == self.factors.numel()), None)

    def misfit(self, shape: Sequence[int]) -> str | None:
        if self.axis(shape) is not None:
            return None
        return (
            f"the adapter scales {self.factors.numel()} {'inputs' if self.on_input else 'outputs'}, "
            f"the model's weight has shape {list(shape)}"
        )

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter; a bias [out] is welcome too where rows are scaled."""
        weight = fitting_weight(self, weight)
        factors, axis = self.factors.float().to(weight.device).flatten() * strength, self.axis(weight.shape)
        return weight * factors.reshape([-1 if n == axis else 1 for n in range(weight.ndim)])


def build_ia3(name: str, parts: Mapping[str, Tensor], facts: ConfigFacts) -> IA3:
    """LyCORIS' (IA)^3, whose file says which side it scales."""
    return IA3(parts["factors"], bool(parts["on_input"].item()))


def build_ia3_of_peft(name: str, parts: Mapping[str, Tensor], facts: ConfigFacts) -> IA3:
    """PEFT's (IA)^3 of a Linear, [out, 1] or [1, in], or of a convolution, whose shape does not tell which it is."""
    stored = parts["factors"]
    if stored.ndim < 2 or (stored.shape[0] != 1 and stored.shape[1] != 1):
        raise LoRAError(f"ia3_l is {list(stored.shape)}: expected [out, 1] or [1, in]")
    on_input = stored.shape[0] == 1 if stored.ndim == 2 else facts.on_input
    return IA3(stored.float() - 1, on_input, with_bias=not on_input)


def marks_of_ia3(name: str, adapter: IA3) -> dict[str, Tensor]:
    """The tensor with which LyCORIS marks the side; LoRAError for PEFT's, which scales the bias too."""
    if adapter.with_bias:
        raise LoRAError(f"{name} is PEFT's (IA)^3, which scales the bias too: kohya files cannot say that")
    return {"on_input": torch.tensor(int(bool(adapter.on_input)))}


@dataclass(frozen=True, eq=False)
class GLoRA:
    """The weight changes by (alpha / rank) * (W a1 a2 + b1 b2), W taken on its inputs (arXiv:2306.07967, LyCORIS).

    a1 [in, r], a2 [r, in], b1 [out, r], b2 [r, in] or [r, in, kh, kw]. Old LyCORIS files have the same names the other
    way round, W a2 a1 + b2 b1 with a1 [r, in], a2 [in, r], b1 [r, in], b2 [out, r]; which it is, the weight's shape
    tells. Where both fit (rank = in = out) the new layout is meant, and ComfyUI takes the old. `alpha` is finite.

    Raises:
        LoRAError: parts that fit neither layout, or an alpha that is not a number.
    """

    a1: Tensor
    a2: Tensor
    b1: Tensor
    b2: Tensor
    alpha: float
    kind: ClassVar[str] = "GLoRA"
    needs_weight: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if any(part.ndim < 2 or not part.numel() for part in (self.a1, self.a2, self.b1, self.b2)):
            raise LoRAError("a GLoRA has four matrices, one of them is not")
        if any(math.prod(part.shape[2:]) != 1 for part in (self.a1, self.a2)) or not self._layouts():
            shapes = ", ".join(str(list(part.shape)) for part in (self.a1, self.a2, self.b1, self.b2))
            raise LoRAError(f"a1, a2, b1, b2 of a GLoRA are {shapes}: their ranks or inputs differ")
        if not math.isfinite(self.alpha):
            raise LoRAError(f"alpha is {self.alpha}: expected a finite number")

    def _layouts(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The parts as (a_in [in, r], a_out [r, in], up [out, r], down [r, in, ...]), new layout first."""
        readings = [(self.a1, self.a2, self.b1, self.b2), (self.a2, self.a1, self.b2, self.b1)]
        return [
            r
            for r in readings
            if r[0].shape[1] == r[1].shape[0] == r[2].shape[1] == r[3].shape[0]
            and r[0].shape[0] == r[1].shape[1] == r[3].shape[1]
            and math.prod(r[2].shape[2:]) == 1
        ]

    @property
    def rank(self) -> int:
        return self._layouts()[0][1].shape[0]

    @property
    def extent(self) -> tuple[int, int]:
        return self._layouts()[0][2].shape[0], self._layouts()[0][3].shape[1]

    def readings(self, shape: Sequence[int]) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The parts as (a_in, a_out, up, down) that fit a weight of this shape, the new layout first."""
        return [
            (a_in, a_out, up, down)
            for a_in, a_out, up, down in self._layouts()
            if down.shape[1] == shape[1] and fits([up.shape[0], *down.shape[1:]], shape)
        ]

    def misfit(self, shape: Sequence[int]) -> str | None:
        if len(shape) >= 2 and self.readings(shape):
            return None
        _, _, up, down = self._layouts()[0]
        return shape_mismatch([up.shape[0], *down.shape[1:]], shape)

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter."""
        weight = fitting_weight(self, weight)
        readings = self.readings(weight.shape)
        chosen = readings[-1 if match_comfyui else 0]
        a_in, a_out, up, down = (part.float().flatten(1).to(weight.device) for part in chosen)
        mixed = torch.einsum("oi...,ir,rj->oj...", weight, a_in, a_out)
        return (mixed + (up @ down).reshape(weight.shape)) * (self.alpha / a_in.shape[1] * strength)
