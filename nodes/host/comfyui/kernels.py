"""ComfyUI's kernels that have no backward pass, under training.

The newer host computes some layers by operations of comfy_kitchen that cannot be differentiated. Each of them has a
twin there that is written in torch's own operations, and gradients go through those. Layers whose weights are packed in
few bits multiply forward only, in some formats; the gradient for their input is then found from what they multiply by,
which they tell when they are given the rows of the identity.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ....lora.weights.trainable import is_linear
from ....training.state import Relief

_LIBRARY = "comfy_kitchen"
_ROWS_AT_ONCE = 1024
_NO_BACKWARD = ("no autograd formula was registered", "do not support autograd")  # how torch and the library say it


class Reliefs:
    """Several that are asked one after another."""

    def __init__(self, *all_of_them: Relief):
        self._all = all_of_them

    def relieve(self, error: RuntimeError) -> bool:
        return any(one.relieve(error) for one in self._all)

    @contextmanager
    def around_step(self) -> Iterator[None]:
        with ExitStack() as stack:
            for one in self._all:
                stack.enter_context(one.around_step())
            yield


class PlainKernels:
    """A `training.state.Relief`: from the first step that ended at such an operation on, twins are called."""

    def __init__(self) -> None:
        self.is_on = False

    def relieve(self, error: RuntimeError) -> bool:
        if not any(mark in str(error) for mark in _NO_BACKWARD) or _twins() is None:
            return False
        was, self.is_on = self.is_on, True
        return not was

    def around_step(self) -> AbstractContextManager:
        twins = _twins() if self.is_on else None
        return nullcontext() if twins is None else _CallTwins(twins)


class PackedLayers:
    """A `training.state.Relief`: from the first step that ended in an error of torch on, gradients pass the network's
    packed layers by what these do forward.
    """

    def __init__(self, network: nn.Module):
        self._network, self.is_on = network, False

    def relieve(self, error: RuntimeError) -> bool:
        was, self.is_on = self.is_on, bool(self._layers())
        return self.is_on and not was

    @contextmanager
    def around_step(self) -> Iterator[None]:
        layers = self._layers() if self.is_on else []
        for layer in layers:
            layer.forward = _forward_alone(layer.forward, layer.in_features)
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward

    def _layers(self) -> list[nn.Linear]:
        """Those whose weight is no plain tensor, and whose forward nobody has replaced."""
        return [
            module
            for module in self._network.modules()
            if is_linear(module) and type(module.weight.data) is not Tensor and "forward" not in vars(module)
        ]


def _forward_alone(forward: Callable[[Tensor], Tensor], width: int) -> Callable[[Tensor], Tensor]:
    return lambda x: _ForwardAlone.apply(x, forward, width) if torch.is_grad_enabled() else forward(x)


class _ForwardAlone(torch.autograd.Function):
    """A layer, x -> x W + b, whose W is asked for in the backward pass, some rows at once."""

    @staticmethod
    def forward(ctx, x: Tensor, forward: Callable[[Tensor], Tensor], width: int) -> Tensor:
        ctx.forward, ctx.width, ctx.dtype = forward, width, x.dtype
        return forward(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple:
        with torch.no_grad():
            return _through(ctx.forward, ctx.width, ctx.dtype, gradient), None, None


def _through(forward: Callable[[Tensor], Tensor], width: int, dtype: torch.dtype, gradient: Tensor) -> Tensor:
    """The gradient for the input of a layer. [..., out] -> [..., in]"""
    zero = torch.zeros(1, width, device=gradient.device, dtype=dtype)
    bias, parts = forward(zero), []
    for first in range(0, width, _ROWS_AT_ONCE):
        count = min(_ROWS_AT_ONCE, width - first)
        rows = torch.zeros(count, width, device=gradient.device, dtype=dtype)
        rows[:, first : first + count].fill_diagonal_(1.0)
        parts.append(gradient @ (forward(rows) - bias).to(gradient.dtype).T)
    return torch.cat(parts, dim=-1).to(dtype)


class _CallTwins(TorchFunctionMode):
    """Calls the twin of an operation whose tensors need gradients; every call of torch comes through here."""

    def __init__(self, twins: ModuleType):
        super().__init__()
        self._twins = twins

    def __torch_function__(self, func, types, args=(), kwargs=None):
        given = kwargs or {}
        name = str(func).removeprefix(f"{_LIBRARY}.") if isinstance(func, torch._ops.OpOverloadPacket) else ""
        if not name or name == str(func) or not _needs_gradients((*args, *given.values())):
            return func(*args, **given)
        if (twin := getattr(self._twins, name.rstrip("_"), None)) is None:
            return func(*args, **given)
        made = twin(*args, **given)
        return _written_into(args, made) if name.endswith("_") else made


def _needs_gradients(values: tuple) -> bool:
    return torch.is_grad_enabled() and any(isinstance(one, Tensor) and one.requires_grad for one in values)


def _written_into(args: tuple, made: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """What an operation of the kind that writes into its first arguments leaves there."""
    for one, own in zip(args, made if isinstance(made, tuple) else (made,)):
        one.copy_(own)
    return args[: len(made)] if isinstance(made, tuple) else args[0]


def _twins() -> ModuleType | None:
    try:
        return importlib.import_module(f"{_LIBRARY}.backends.eager")
    except ImportError:
        return None
