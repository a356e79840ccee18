"""Adapters that learn, a class for each kind: modules that stand beside one Linear or Conv2d, whose weight stays.

`TRAINABLE` names them. LoRA is that of `kinds.adapters`; DoRA (arXiv 2402.09353) gives each input column of the changed
weight a length that learns, too; LoKr is the Kronecker product of `kinds.kronecker`, with LyCORIS' sizes and start.
"""

import math
from typing import Protocol, TypeGuard

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ..kinds.adapters import Adapter, LoRA, LoRAError
from ..kinds.kronecker import LoKr
from ..kinds.magnitude import DoRA

Layer = nn.Linear | nn.Conv2d


def is_layer(module: nn.Module) -> TypeGuard[Layer]:
    """Whether an adapter can stand beside it: a Linear, a Conv2d, or what hosts have in a Linear's place for weights in
    few bits, with its numbers of features and a weight.
    """
    return isinstance(module, nn.Conv2d) or is_linear(module)


def is_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    """See `is_layer`."""
    if isinstance(module, nn.Linear):
        return True
    sides = (getattr(module, "in_features", None), getattr(module, "out_features", None))
    return all(isinstance(side, int) for side in sides) and isinstance(getattr(module, "weight", None), Tensor)


def sides_of(layer: Layer) -> tuple[int, int]:
    """Rows and columns of what a layer multiplies by, whatever its weight is packed in."""
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels, layer.in_channels // layer.groups
    return layer.out_features, layer.in_features


class Trainable(nn.Module):
    """What all kinds have: alpha, dropout on the layer's input, and a switch that takes the adapter out."""

    alpha: float

    def __init__(self, alpha: float, dropout: float) -> None:
        super().__init__()
        self.alpha, self.is_silent = alpha, False
        self.dropout = nn.Dropout(dropout)

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        """The adapter's addition to the layer's output. [..., in] -> [..., out] or [B, in, H, W] -> [B, out, h, w]"""
        raise NotImplementedError

    def adapter(self) -> Adapter:
        """What it has learned, as copies."""
        raise NotImplementedError

    def tensors_of(self, adapter: Adapter) -> dict[str, Tensor] | None:
        """The adapter's tensors under the names of the parameters here; None for one of another kind or alpha."""
        raise NotImplementedError

    def load_(self, adapter: Adapter) -> None:
        """Take over what `misfit` has nothing against."""
        with torch.no_grad():
            for name, tensor in (self.tensors_of(adapter) or {}).items():
                self.get_parameter(name).copy_(tensor)

    def misfit(self, adapter: Adapter) -> str | None:
        """Why the adapter cannot be taken over, in words; None where it can."""
        own, theirs = {name: list(one.shape) for name, one in self.named_parameters()}, self.tensors_of(adapter)
        given = {name: list(one.shape) for name, one in (theirs or {}).items()}
        if theirs is not None and given == own:
            return None
        return (
            f"comes as {adapter.kind} with alpha {adapter.alpha} and {given}, but alpha {self.alpha:g} and {own} were "
            "injected: use the same numbers as before"
        )


class TrainableLoRA(Trainable):
    """The factors: down is random (Kaiming), up is zero, so at the start nothing changes.

    up [out, r] or [out, r, 1, 1]; down [r, in] or [r, in / groups, kh, kw]; both fp32 whatever the layer is in.
    """

    def __init__(self, layer: Layer, rank: int, alpha: float, dropout: float, generator: Generator | None) -> None:
        super().__init__(alpha, dropout)
        up: tuple[int, ...]
        down: tuple[int, ...]
        if isinstance(layer, nn.Conv2d):
            up, down = (layer.out_channels, rank, 1, 1), (rank, layer.in_channels // layer.groups, *layer.kernel_size)
        else:
            up, down = (layer.out_features, rank), (rank, layer.in_features)
        self.down = nn.Parameter(_random(down, generator).to(layer.weight.device))
        self.up = nn.Parameter(torch.zeros(up, device=layer.weight.device))

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        x = self.dropout(x.to(self.down.dtype))
        if isinstance(layer, nn.Conv2d):
            # every group applies the same `down` to its own channels: exactly weight + up @ down of a grouped layer
            down = self.down.repeat(layer.groups, 1, 1, 1)  # [groups * r, in / groups, kh, kw]
            hidden = layer._conv_forward(x, down, None)  # its stride, padding and their modes
            added = F.conv2d(hidden, self.up, groups=layer.groups)
        else:
            added = F.linear(F.linear(x, self.down), self.up)
        return added * (self.alpha / self.down.shape[0])

    def adapter(self) -> Adapter:
        return LoRA(self.up.detach().clone(), self.down.detach().clone(), self.alpha)

    def tensors_of(self, adapter: Adapter) -> dict[str, Tensor] | None:
        fits = isinstance(adapter, LoRA) and adapter.mid is None and adapter.alpha == self.alpha
        return {"down": adapter.down, "up": adapter.up} if fits and isinstance(adapter, LoRA) else None


class TrainableDoRA(TrainableLoRA):
    """A LoRA, and the length of each input column of the changed weight, which begins as that of the weight itself.

    Columns, not rows: on rows ComfyUI's loader divides by other lengths than those of the changed weight. It needs the
    weight's numbers, and as much memory as the weight for each layer. magnitude [1, in / groups] or [.., 1, 1]
    """

    def __init__(self, layer: Layer, rank: int, alpha: float, dropout: float, generator: Generator | None) -> None:
        super().__init__(layer, rank, alpha, dropout, generator)
        self.magnitude = nn.Parameter(_column_lengths(_numbers(layer)).clone())

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        weight = _numbers(layer).to(x.device)
        change = (self.up.flatten(1) @ self.down.flatten(1)).reshape(weight.shape) * (self.alpha / self.down.shape[0])
        moved = weight + change
        return _applied(layer, self.dropout(x.float()), moved * (self.magnitude / _column_lengths(moved)) - weight)

    def adapter(self) -> Adapter:
        return DoRA(super().adapter(), self.magnitude.detach().clone())

    def tensors_of(self, adapter: Adapter) -> dict[str, Tensor] | None:
        inner = super().tensors_of(adapter.inner) if isinstance(adapter, DoRA) else None
        return {**inner, "magnitude": adapter.magnitude} if inner and isinstance(adapter, DoRA) else None


class TrainableLoKr(Trainable):
    """kron(w1, w2): w1 is whole, w2 two factors where the rank is less than half its sides, else whole. w2 begins as 0.

    w1 [o1, i1] with o1 * o2 = out, o1 <= o2 and as near as can be, i1 likewise; w2_a [o2, r], w2_b [r, i2 * kh * kw]
    """

    def __init__(self, layer: Layer, rank: int, alpha: float, dropout: float, generator: Generator | None) -> None:
        super().__init__(alpha, dropout)
        (out, width, *kernel), device = layer.weight.shape, layer.weight.device
        (o1, o2), (i1, i2) = _nearest_factors(out), _nearest_factors(width)
        self.kernel = tuple(kernel)
        columns = i2 * math.prod(kernel)
        self.w1 = nn.Parameter(_random((o1, i1), generator).to(device))
        if rank < max(o2, i2) / 2:
            self.w2_a = nn.Parameter(_random((o2, rank), generator).to(device))
            self.w2_b = nn.Parameter(torch.zeros(rank, columns, device=device))
            self.scale = alpha / rank
        else:
            self.w2 = nn.Parameter(torch.zeros(o2, i2, *kernel, device=device))
            self.scale = 1.0

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        x = self.dropout(x.to(self.w1.dtype))
        if isinstance(layer, nn.Conv2d):
            change = torch.kron(self.w1, self._second().flatten(1)).reshape(layer.weight.shape)
            return _applied(layer, x, change * self.scale)
        x = x.unflatten(-1, (self.w1.shape[1], -1))  # [..., i1, i2]
        x = F.linear(F.linear(x, self.w2_b), self.w2_a) if hasattr(self, "w2_a") else F.linear(x, self.w2)
        return torch.einsum("oi,...ip->...op", self.w1, x).flatten(-2) * self.scale  # [..., o1 * o2]

    def _second(self) -> Tensor:
        return self.w2_a @ self.w2_b if hasattr(self, "w2_a") else self.w2

    def adapter(self) -> Adapter:
        return LoKr(self.alpha, **{name: one.detach().clone() for name, one in self.named_parameters()})

    def tensors_of(self, adapter: Adapter) -> dict[str, Tensor] | None:
        if not isinstance(adapter, LoKr) or adapter.alpha != self.alpha:
            return None
        names = ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
        return {name: one for name in names if isinstance(one := getattr(adapter, name), Tensor)}


class MakesTrainable(Protocol):
    """Puts an adapter of one kind beside a layer."""

    def __call__(
        self, layer: Layer, rank: int, alpha: float, dropout: float, generator: Generator | None
    ) -> Trainable: ...


TRAINABLE: dict[str, MakesTrainable] = {"LoRA": TrainableLoRA, "DoRA": TrainableDoRA, "LoKr": TrainableLoKr}


def _random(shape: tuple[int, ...], generator: Generator | None) -> Tensor:
    return nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5), generator=generator)


def _numbers(layer: Layer) -> Tensor:
    """The layer's weight in fp32, without gradients.

    Raises:
        LoRAError: its numbers are packed (quantised), and only the layer knows what they mean.
    """
    weight = layer.weight
    shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size) if isinstance(
        layer, nn.Conv2d
    ) else (layer.out_features, layer.in_features)  # fmt: skip
    is_plain = type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point() and tuple(weight.shape) == shape
    if not is_plain or getattr(layer, "scale_weight", None) is not None:
        raise LoRAError("a DoRA needs the numbers of the weights, which are packed in this model: train another kind")
    return weight.detach().float()


def _column_lengths(weight: Tensor) -> Tensor:
    """The length of each input's column, as `DoRA.delta` and ComfyUI have it. [out, in, ...] -> [1, in, 1, ...]"""
    others = [n for n in range(weight.ndim) if n != 1]
    return torch.linalg.vector_norm(weight, dim=others, keepdim=True) + torch.finfo(torch.float32).eps


def _applied(layer: Layer, x: Tensor, change: Tensor) -> Tensor:
    """What the layer would put out more, were its weight changed so."""
    if isinstance(layer, nn.Conv2d):
        return layer._conv_forward(x, change, None)
    return F.linear(x, change)


def _nearest_factors(number: int) -> tuple[int, int]:
    """The two factors of a number that are nearest to one another, the smaller one first.

    >>> _nearest_factors(320), _nearest_factors(7)
    ((16, 20), (1, 7))
    """
    low = next(one for one in range(math.isqrt(number), 0, -1) if number % one == 0)
    return low, number // low
