"""Several processes, on one machine or many, as torchrun starts them; alone, where nobody did. The one file that knows
torch.distributed. What is shared here are small objects, which go through gloo on the CPU; tensors of NVIDIA's cards
would go through NCCL. So it works without cards, and with them no card waits for the slowest process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

Shared = TypeVar("Shared")
GONE = "another of the processes is gone: start all of them again, to go on"
_PATIENCE = timedelta(days=7)  # the slowest process may need that much longer than the fastest


class LostProcess(ValueError):
    """Another process of the group has ended; the message is one sentence for the user."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process's number, 0 first, and how many there are."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, value: Shared) -> Shared:
        """Send the first process's value to all; every process must call it."""
        box = [value]
        if self.size > 1:
            with _sentence_for_the_lost():
                dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: object) -> list:
        """Collect the value of each process, in order, in all of them; every process must call it and waits for the
        slowest.
        """
        found = [value] * self.size
        if self.size > 1:
            with _sentence_for_the_lost():
                dist.all_gather_object(found, value)
        return found

    def sum_in_order(self, tensors: Sequence[Tensor]) -> None:
        """Put into each tensor the sum over all processes, added in their order, so that all have the same bits; every
        process must call it with tensors of the same shapes.

        Raises:
            LostProcess: one of the others is gone.
        """
        if self.size == 1 or not tensors:
            return
        count = sum(tensor.numel() for tensor in tensors)
        each = -(-count // self.size)  # of the numbers, which a process adds for all
        told = torch.zeros(self.size, each, device="cpu", dtype=torch.float32)
        _spread(tensors, told)
        heard = torch.empty_like(told)
        with _sentence_for_the_lost():
            dist.all_to_all_single(heard, told)
            total = heard[0]
            for other in heard[1:]:
                total = total + other
            dist.all_gather(list(told), total)
        flat, place = told.flatten(), 0
        for tensor in tensors:
            part = flat[place : place + tensor.numel()].view(tensor.shape)
            tensor.copy_(part.to(tensor.dtype))
            place += tensor.numel()

    def gather_rows(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        """Gather the rows of all processes, in their order, without gradients; `counts` says how many each has. Every
        process must call it. [n, ...] -> [sum of counts, ...] on the device of `own`

        Raises:
            LostProcess: one of the others is gone.
        """
        if self.size == 1:
            return own.detach()
        padded = torch.zeros(max(counts), *own.shape[1:], dtype=own.dtype)
        padded[: len(own)] = own.detach().cpu()
        found = [torch.empty_like(padded) for _ in range(self.size)]
        with _sentence_for_the_lost():
            dist.all_gather(found, padded)
        return torch.cat([rows[:count] for rows, count in zip(found, counts)]).to(own.device)

    def sum_rows(self, whole: Tensor, counts: Sequence[int]) -> Tensor:
        """Sum what all processes say about each other's rows, added in the order of the processes, and return this
        process's own rows. `counts` says how many each has. Every process must call it.

        [sum of counts, ...] -> [n, ...]

        Raises:
            LostProcess: one of the others is gone.
        """
        if self.size == 1:
            return whole
        most = max(counts)
        told = torch.zeros(self.size, most, *whole.shape[1:], dtype=whole.dtype)
        for rank, rows in enumerate(whole.detach().cpu().split(list(counts))):
            told[rank, : len(rows)] = rows
        heard = torch.empty_like(told)
        with _sentence_for_the_lost():
            dist.all_to_all_single(heard, told)
        total = heard[0]
        for other in heard[1:]:
            total = total + other
        return total[: counts[self.rank]].to(whole.device)


def _spread(tensors: Sequence[Tensor], into: Tensor) -> None:
    """Write the numbers of tensors one behind the other, as far as they go. any shapes, [size, each]"""
    flat, place = into.view(-1), 0
    for tensor in tensors:
        flat[place : place + tensor.numel()] = tensor.detach().flatten()
        place += tensor.numel()


@contextmanager
def _sentence_for_the_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostProcess(GONE) from error


def current_group() -> ProcessGroup:
    """The group that `join_group` joined, where it is open; else a group of one."""
    if dist.is_available() and dist.is_initialized():
        return ProcessGroup(dist.get_rank(), dist.get_world_size())
    return ProcessGroup(0, 1)


def backend(device: torch.device) -> str:
    """Return the backend that carries messages between processes on such a device."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" and dist.is_nccl_available() else "gloo"


def own_device(device: torch.device) -> torch.device:
    """This process's own card of that kind, where torchrun started several on a machine; a numbered one stays."""
    if device.type not in ("cuda", "xpu") or device.index is not None or not dist.is_torchelastic_launched():
        return device
    cards = getattr(torch, device.type).device_count()
    return torch.device(device.type, int(dist.get_node_local_rank(0)) % cards)


@contextmanager
def join_group(device: torch.device) -> Iterator[ProcessGroup]:
    """The group that torchrun started, with `device` (see `own_device`) as the current card; else a group of one."""
    if device.type in ("cuda", "xpu"):
        getattr(torch, device.type).set_device(device)
    if not dist.is_available() or not dist.is_torchelastic_launched():
        yield ProcessGroup(0, 1)
        return
    dist.init_process_group(backend(device), timeout=_PATIENCE)
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def sharded(kind: type[Optimizer], groups: list[dict], numbers: Mapping[str, object]) -> Optimizer:
    """An optimiser of this kind whose memory is shared out: each process has that of some parameters, moves these, and
    tells the others (torch's ZeroRedundancyOptimizer; Rajbhandari et al., arXiv 1910.02054, stage 1).
    """
    from torch.distributed.optim import ZeroRedundancyOptimizer

    return ZeroRedundancyOptimizer(groups, optimizer_class=kind, **numbers)  # type: ignore[arg-type]


def own_part(optimizer: Optimizer) -> Optimizer:
    """The optimiser of this process's own parameters: of one that is not `sharded` itself."""
    return getattr(optimizer, "optim", optimizer)


def whole_state(optimizer: Optimizer) -> dict[int, dict[str, object]] | None:
    """The memory of a sharded optimiser, by the number of the parameter in its groups, in the first process; None in
    the others. Every process must call it.

    Raises:
        LostProcess: one of the others is gone.
    """
    with _sentence_for_the_lost():
        optimizer.consolidate_state_dict(to=0)  # type: ignore[attr-defined]
    return optimizer.state_dict()["state"] if dist.get_rank() == 0 else None
