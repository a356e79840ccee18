"""ComfyUI's fused kernels under training: their library's plain functions are called in their place.

The newer host computes some layers by operations of comfy_kitchen that have no backward pass. Each of them has a twin
there that is written in torch's own operations, and gradients go through those.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_LIBRARY = "comfy_kitchen"
_NO_BACKWARD = ("no autograd formula was registered", "do not support autograd")  # how torch and the library say it


class PlainKernels:
    """A `training.state.Relief`: from the first step that ended at such an operation on, twins are called."""

    def __init__(self) -> None:
        self.is_on = False

    def relieve(self, error: RuntimeError) -> bool:
        if not any(mark in str(error) for mark in _NO_BACKWARD) or _twins() is None:
            return False
        was, self.is_on = self.is_on, True
        return not was

    @contextmanager
    def around_step(self) -> Iterator[None]:
        twins = _twins() if self.is_on else None
        if twins is None:
            yield
            return
        with _CallTwins(twins):
            yield


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
