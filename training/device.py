"""Where training and scripts compute, and how what was drawn on the CPU gets there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from ..clip_core.device import sent as sent  # the one way from the CPU to a card, for batches too

KINDS = ("cuda", "xpu", "mps")  # in the order in which one is taken, if a machine has several


class NoSuchDevice(ValueError):
    """A device was asked for that this machine has not; the message is one sentence for the user."""


def best_device() -> torch.device:
    """The card, where there is one; else the CPU."""
    return torch.device(next((kind for kind in KINDS if is_there(kind)), "cpu"))


def named_device(name: str) -> torch.device:
    """`auto`, `cpu`, or a card such as `cuda`, `cuda:1`, `xpu` or `mps`.

    Raises:
        NoSuchDevice: no device has this name, or there is none of that kind, or not so many.
    """
    if name == "auto":
        return best_device()
    there = ", ".join(["cpu", *filter(is_there, KINDS)])
    kind, _, number = name.partition(":")
    if kind not in ("cpu", *KINDS) or (number and not number.isdecimal()):
        raise NoSuchDevice(f"{name!r} names no device; choose one of auto, {there}")
    if kind != "cpu" and (not is_there(kind) or (number and int(number) >= _count(kind))):
        raise NoSuchDevice(
            f"the device {name} was asked for, but this machine, or its torch, has none; choose one of auto, {there}"
        )
    return torch.device(name)


def on_the_cpu(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Bring tensors of one type to the CPU in one transfer, for which a card is waited for once. Any shapes."""
    if not tensors or all(tensor.device.type == "cpu" for tensor in tensors):
        return list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).cpu()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors)]


@contextmanager
def drawn_from(seed: int, device: torch.device) -> Iterator[None]:
    """Let what is drawn from torch's common random state, as dropout is, depend on `seed` alone, and leave no trace."""
    cards, kind = ([], "cuda") if device.type == "cpu" else ([device], device.type)
    with torch.random.fork_rng(cards, device_type=kind):
        torch.manual_seed(seed)
        yield


def is_there(kind: str) -> bool:
    """Whether this machine and its torch have a device of this kind."""
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind == "cpu" or (hasattr(torch, kind) and getattr(torch, kind).is_available())


def _count(kind: str) -> int:
    return 1 if kind in ("cpu", "mps") else getattr(torch, kind).device_count()


def products_in(precision: torch.dtype, device: torch.device) -> AbstractContextManager:
    """While this is open, matrix products and convolutions of the device are computed in `precision`."""
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)
