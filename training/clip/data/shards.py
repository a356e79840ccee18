"""Tar shards shared out among the processes of a training: each reads its own, and a step stays what it is with one.

Shard n belongs to process n modulo their number. The order in which pictures are seen knows nothing of processes: it
goes round lanes, of which there are as many as shards, down to a power of two, so that a batch has as much of each
lane. With 2, 4, 8, ... processes, no more than lanes, each then has an equal part of every batch in its own shards.
Where there are fewer shards than processes, nothing is shared out: every process reads all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from pathlib import Path

import torch
from torch import Generator

from ....files.captioned.pairs import Pair, Pairs
from ....files.captioned.shards import read_shards
from ....files.errors import FileFormatError
from ...distributed import current_group


def are_shared_out(shards: int, processes: int) -> bool:
    """Whether each process reads shards of its own."""
    return 1 < processes <= shards


def read_shards_together(paths: Sequence[Path]) -> list[Pairs]:
    """Read the headers of shards, each process those of its own, which are told to all; every process must call it.

    Raises:
        FileFormatError: in all processes, where one of them found a shard that cannot be read.
    """
    group = current_group()
    if not are_shared_out(len(paths), group.size):
        return read_shards(paths)
    own: list[Pairs] = []
    wrong: FileFormatError | None = None
    try:
        own = read_shards(paths[group.rank :: group.size])
    except FileFormatError as error:
        wrong = error
    told: list[tuple[list[Pairs], FileFormatError | None]] = group.gather((own, wrong))
    for _, another in told:
        if another is not None:
            raise another
    return [told[number % group.size][0][number // group.size] for number in range(len(paths))]


def shard_numbers(pairs: Sequence[Pair]) -> list[int]:
    """The number of the archive that each pair lies in, in the order of the archives; -1 outside of one.

    >>> [a, b] = [Pair("1", Path("a.tar"), first=512), Pair("2", Path("b.tar"), first=512)]
    >>> shard_numbers([a, b, a, Pair("cat.png", Path("cat.png"))])
    [0, 1, 0, -1]
    """
    numbers: dict[Path, int] = {}
    return [numbers.setdefault(pair.path, len(numbers)) if pair.first else -1 for pair in pairs]


def owners_of(pairs: Sequence[Pair]) -> list[int] | None:
    """The process that reads the picture of each pair; None where all read all."""
    size, numbers = current_group().size, shard_numbers(pairs)
    if min(numbers, default=-1) < 0 or not are_shared_out(max(numbers) + 1, size):
        return None
    return [number % size for number in numbers]


def notes_on_shards(shards: int) -> list[str]:
    """What a report should say of so many shards and the processes."""
    size = current_group().size
    if size == 1 or not shards:
        return []
    if shards < size:
        return [
            f"there are {shards} tar files and {size} processes, so that every process reads all of them: write at "
            f"least {size}, and each reads its own"
        ]
    return [f"each of {size} processes reads its own of {shards} tar files; the held-out pictures the first one"]


def lanes_of(order: Sequence[int], shards: Sequence[int], batch: int) -> list[list[int]]:
    """The places to learn from by their lane, of which there is one where they do not lie in shards. shards: of each
    place of `order` the number of its shard.

    >>> lanes_of([5, 6, 7, 8], [0, 1, 2, 0], 64), lanes_of([5, 6], [-1, -1], 64)
    ([[5, 7, 8], [6]], [[5, 6]])
    """
    known = len(set(shards)) if min(shards, default=-1) >= 0 else 1
    count = 1 << (max(1, min(known, batch)).bit_length() - 1)
    lanes: list[list[int]] = [[] for _ in range(count)]
    for place, shard in zip(order, shards):
        lanes[max(shard, 0) % count].append(place)
    return [lane for lane in lanes if lane]


def one_pass(lanes: Sequence[Sequence[int]], generator: Generator) -> list[int]:
    """All places once, each lane shuffled, so that every stretch has of each lane its share of the whole, to within
    less than two places.
    """
    shuffled = [iter(torch.randperm(len(lane), generator=generator).tolist()) for lane in lanes]
    return [lanes[number][next(shuffled[number])] for number in _turns([len(lane) for lane in lanes])]


def _turns(sizes: Sequence[int]) -> Iterator[int]:
    """The lane of each place of a pass: after any number of them each lane has had its share, to less than one.

    Of each lane the place n may come as soon as n are due, and must before more than n + 1 are; of those that may,
    the one that must soonest comes next. Source: R. Tijdeman, The chairman assignment problem (1980).

    >>> list(_turns([2, 2, 4]))
    [2, 0, 1, 2, 2, 0, 1, 2]
    """
    whole = sum(sizes)
    ready = sorted((-(-whole // size), number, 1) for number, size in enumerate(sizes))  # must, lane, which of it
    waiting: list[tuple[int, int, int, int]] = []  # may, and what stands in `ready`
    for time in range(whole):
        while waiting and waiting[0][0] <= time:
            heappush(ready, heappop(waiting)[1:])
        _, number, count = heappop(ready)
        yield number
        if count < (size := sizes[number]):
            heappush(waiting, (count * whole // size, -(-(count + 1) * whole // size), number, count + 1))


def dealt(shards: Sequence[int], all_shards: int) -> tuple[list[int], list[int]] | None:
    """The rows of a batch in the order of the processes that have their pictures, and how many each has; None where
    rows are shared out evenly, as they stand. shards: of each row; all_shards: how many there are.
    """
    size = current_group().size
    if not are_shared_out(all_shards, size):
        return None
    owners = [shard % size for shard in shards]
    turn = sorted(range(len(owners)), key=lambda row: owners[row])
    return turn, [owners.count(rank) for rank in range(size)]
