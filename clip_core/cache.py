"""Encoded rows, kept, so that a prompt encoded again, or with other weights only, needs no pass of the encoder."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from .rows import Row, Rows, Run


class RowCache:
    """Rows with their encodings, the least recently used of which go when there are more than `limit_bytes` of them.

    `owner` stands for everything besides the row that an encoding depends on: the encoder, its weights as they are
    patched, the layer. Encodings are kept on the device they came on, as copies of their own. Several threads may use
    one cache; two that want the same row at the same time may both run it.

    Raises:
        ValueError: `limit_bytes` is negative. 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int):
        if limit_bytes < 0:
            raise ValueError(f"a cache of {limit_bytes} bytes was asked for; 0 is the smallest, which keeps nothing")
        self.limit_bytes = limit_bytes
        self._kept: OrderedDict[Hashable, tuple[Tensor, Tensor]] = OrderedDict()  # -> [T, C], [P]
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Of the encodings kept."""
        return self._bytes

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def through(self, run: Run, owner: Hashable) -> Run:
        """`run`, asked only for rows that are not kept under this owner: once each, in one pass, in their order. What
        it gives is a copy: changing it changes nothing kept.
        """

        def answer(rows: Sequence[Row]) -> Rows:
            keys = [(owner, row.key) for row in rows]
            found = self._find(keys)
            missing = {key: row for key, row in zip(keys, rows) if key not in found}
            if missing:
                done = run(list(missing.values()))
                new = {key: (done.hidden[n], done.pooled[n]) for n, key in enumerate(missing)}
                self._keep(new)
                found |= new
            hidden, pooled = zip(*(found[key] for key in keys))
            return Rows(torch.stack(hidden), torch.stack(pooled))

        return answer

    def _find(self, keys: Sequence[Hashable]) -> dict[Hashable, tuple[Tensor, Tensor]]:
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
            for key in found:
                self._kept.move_to_end(key)
        return found

    def _keep(self, new: dict[Hashable, tuple[Tensor, Tensor]]) -> None:
        with self._lock:
            for key, encoding in new.items():
                size = _bytes(encoding)
                if size > self.limit_bytes or key in self._kept:
                    continue
                self._kept[key] = tuple(_copy(tensor) for tensor in encoding)
                self._bytes += size
            while self._bytes > self.limit_bytes:
                self._bytes -= _bytes(self._kept.popitem(last=False)[1])


def _bytes(encoding: tuple[Tensor, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in encoding)


def _copy(tensor: Tensor) -> Tensor:
    """Not a view, which would keep the whole batch; and an ordinary tensor even if the pass was in inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        return tensor.detach().clone()
