"""Results kept up to so many bytes, the least recently used of which go first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """A bounded store; `size` gives the bytes of an entry, `copy` what is put away of a value. Threads may share it."""

    def __init__(self, limit_bytes: int, size: Callable[[Key, Value], int], copy: Callable[[Value], Value]):
        self.limit_bytes = limit_bytes
        self._size, self._copy = size, copy
        self._entries: OrderedDict[Key, Value] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """Of all entries."""
        return self._bytes

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def find(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """Those that are there."""
        with self._lock:
            found = {key: self._entries[key] for key in keys if key in self._entries}
            for key in found:
                self._entries.move_to_end(key)
        return found

    def keep(self, new: Mapping[Key, Value]) -> None:
        """Put away what is new; an entry that is larger than the limit alone is not."""
        with self._lock:
            for key, value in new.items():
                size = self._size(key, value)
                if size > self.limit_bytes or key in self._entries:
                    continue
                self._entries[key] = self._copy(value)
                self._bytes += size
            while self._bytes > self.limit_bytes:
                self._bytes -= self._size(*self._entries.popitem(last=False))


def bytes_of(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def copied(tensor: Tensor) -> Tensor:
    """Not a view, which would keep the whole batch; and an ordinary tensor even if the pass was in inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        return tensor.detach().clone()
