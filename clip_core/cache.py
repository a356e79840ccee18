"""Encoded rows, kept, so that a prompt encoded again, or with other weights only, needs no pass of the encoder."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from .kept import Kept, bytes_of, copied
from .rows import Row, Rows, Run

Encoding = tuple[Tensor, Tensor]  # [T, C], [P]


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
        self._kept: Kept[Hashable, Encoding] = Kept(limit_bytes, _bytes, lambda found: tuple(map(copied, found)))

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def limit_bytes(self) -> int:
        return self._kept.limit_bytes

    @property
    def bytes(self) -> int:
        """Of the encodings kept."""
        return self._kept.bytes

    def clear(self) -> None:
        self._kept.clear()

    def through(self, run: Run, owner: Hashable) -> Run:
        """`run`, asked only for rows that are not kept under this owner: once each, in one pass, in their order. What
        it gives is a copy: changing it changes nothing kept.
        """

        def answer(rows: Sequence[Row]) -> Rows:
            keys = [(owner, row.key) for row in rows]
            found = self._kept.find(keys)
            missing = {key: row for key, row in zip(keys, rows) if key not in found}
            if missing:
                done = run(list(missing.values()))
                new = {key: (done.hidden[n], done.pooled[n]) for n, key in enumerate(missing)}
                self._kept.keep(new)
                found |= new
            hidden, pooled = zip(*(found[key] for key in keys))
            return Rows(torch.stack(hidden), torch.stack(pooled))

        return answer


def _bytes(key: Hashable, encoding: Encoding) -> int:
    return sum(map(bytes_of, encoding))
