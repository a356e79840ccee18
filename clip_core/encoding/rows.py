"""Rows: what a text encoder is given in one pass, and what it gives back, whoever's encoder it is; and the rows that
were encoded before, in a store bounded by its bytes.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ..prompts.chunks import Chunk, Token

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Row:
    """The tokens of one pass, start to padding; their emphases mean nothing here. Attention does not go to the places
    in `unseen`, though their own encodings are still computed.

    Raises:
        ValueError: an unseen place is none of the row's, or is the first, which has nothing else to look at.
    """

    tokens: tuple[Token, ...]
    unseen: frozenset[int] = frozenset()

    def __post_init__(self):
        if self.unseen and not 1 <= min(self.unseen) <= max(self.unseen) < len(self.tokens):
            raise ValueError(
                f"places {sorted(self.unseen)} of a row of {len(self.tokens)} tokens were to be hidden; "
                f"only places 1 to {len(self.tokens) - 1} can be"
            )

    @cached_property
    def key(self) -> Hashable:
        """Equal for rows that an encoder cannot tell apart: ids, learned vectors by their bytes, unseen places."""
        return tuple(t.id if isinstance(t.id, int) else _fingerprint(t.id) for t in self.tokens), self.unseen


@dataclass(frozen=True)
class Rows:
    """One pass's results, in the order of its rows."""

    hidden: Tensor  # [n, T, C] float32
    pooled: Tensor  # [n, P] float32


Run = Callable[[Sequence[Row]], Rows]  # one pass of an encoder


@dataclass(frozen=True)
class Term:
    """What a row adds to the encoding of a chunk: its own encoding times `share`."""

    chunk: int
    row: Row
    share: float | Tensor  # one for all places, or [T, 1]


def plain(chunks: Sequence[Chunk]) -> list[Term]:
    """Every chunk is its own encoding."""
    return [Term(number, Row(tuple(chunk)), 1.0) for number, chunk in enumerate(chunks)]


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


class RowCache(Kept[Hashable, tuple[Tensor, Tensor]]):
    """Rows with their encodings, on the device they came on.

    An `owner` stands for everything besides the row that an encoding depends on: the encoder, its weights as they are
    patched, the layer. Two threads that want the same row at the same time may both run it.

    Raises:
        ValueError: `limit_bytes` is negative. 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int):
        if limit_bytes < 0:
            raise ValueError(f"a cache of {limit_bytes} bytes was asked for; 0 is the smallest, which keeps nothing")
        super().__init__(limit_bytes, _bytes, _copied)

    def through(self, run: Run, owner: Hashable) -> Run:
        """`run`, asked only for rows that are not kept under this owner: once each, in one pass, in their order. What
        it gives is a copy: changing it changes nothing kept.
        """

        def answer(rows: Sequence[Row]) -> Rows:
            keys: list[Hashable] = [(owner, row.key) for row in rows]
            found = self.find(keys)
            missing = {key: row for key, row in zip(keys, rows) if key not in found}
            if missing:
                done = run(list(missing.values()))
                new = {key: (done.hidden[n], done.pooled[n]) for n, key in enumerate(missing)}
                self.keep(new)
                found |= new
            hidden, pooled = zip(*(found[key] for key in keys))
            return Rows(torch.stack(hidden), torch.stack(pooled))

        return answer


def _fingerprint(vector: Tensor) -> tuple[str, bytes]:
    content = bytes(vector.detach().cpu().reshape(-1).view(torch.uint8).tolist())
    return str(vector.dtype), hashlib.blake2b(content, digest_size=16).digest()


def _bytes(key: Hashable, encoding: tuple[Tensor, Tensor]) -> int:
    return sum(map(bytes_of, encoding))


def _copied(encoding: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return copied(encoding[0]), copied(encoding[1])
