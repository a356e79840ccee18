"""Several processes, on one machine or many, as torchrun starts them; alone, where nobody did. The one file that knows
torch.distributed. Small messages only (gloo), so it works without GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

_PATIENCE = timedelta(days=7)  # the slowest process may need that much longer than the fastest


@dataclass(frozen=True)
class Group:
    """This process's number, 0 first, and how many there are."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, value: object) -> object:
        """What the first process has, in all of them; every process must call it."""
        box = [value]
        if self.size > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: object) -> list:
        """What each process has, in order, in all of them; every process must call it, so it waits for the slowest."""
        found = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        return found


@contextmanager
def joined() -> Iterator[Group]:
    """The group that torchrun started, each process on a GPU of its own where there are some; else a group of one."""
    if not dist.is_available() or not dist.is_torchelastic_launched():
        yield Group(0, 1)
        return
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(dist.get_node_local_rank(0) % torch.cuda.device_count())
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
