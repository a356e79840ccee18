"""Exact search in rows of unit length: matrix products block by block with a running top-k, and groups of near
duplicates. Nothing is approximated, and memory holds the scores of one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import OnStep

SAME = 1e-6  # cosines that differ by less are equal: rows are float32, and reports round to so many places
_SCORES = 4_000_000  # in one block: 32 MB
_ROWS = 8192  # in one block: 34 MB of 512 dimensions in float64
_PAIR_ROWS = 2048  # its square is the number of pairs in one block
_STEPS = 2.0**30  # of a cosine between 0 and 1: coarser than any order of summation in float64, finer than float32
_PLACES = 1 << 32  # numbers of rows below this


@dataclass(frozen=True)
class Hits:
    """The nearest rows of each query, the nearest first, equal ones in the order of the index; k is at most the number
    of rows.
    """

    scores: Tensor  # float64 [Q, k] cosines, exactly 1 of a row with itself
    rows: Tensor  # [Q, k] numbers of rows, over all blocks


def nearest(
    blocks: Sequence[Tensor],
    queries: Tensor,
    count: int,
    *,
    dead: Sequence[Tensor] | None = None,
    on_step: OnStep | None = None,
) -> Hits:
    """Find the `count` rows with the largest cosine to each query. `dead` are the deleted rows of each block. Scores
    and order do not depend on `count`, on the number of queries or on how rows lie in blocks.

    It runs on the blocks' device, which is the CPU for blocks on a disk: each row is used once, and the bus to a card
    is no faster than the CPU's memory.

    blocks [n, E] each, queries [Q, E] -> [Q, k]
    """
    queries = _unit(queries.to(blocks[0].device) if len(blocks) else queries)
    best = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)  # keys, the best first
    total, start = sum(len(block) for block in blocks), 0
    step = min(_ROWS, max(1024, _SCORES // max(1, len(queries))))
    for number, block in enumerate(blocks):
        first = start
        for part in block.split(step):
            keys = _keys(queries, part, start)  # [Q, n]
            if dead is not None and len(dead[number]):
                gone = dead[number].cpu() + first - start  # on the CPU, so this waits for no card
                keys[:, gone[(gone >= 0) & (gone < len(part))].to(keys.device)] = torch.iinfo(torch.int64).min
            found = keys.topk(min(count, len(part)), dim=1, sorted=False).values
            best = torch.cat((best, found), 1).sort(dim=1, descending=True).values[:, :count]
            start += len(part)
            if on_step is not None:
                on_step(start, total)
    best = best[:, : total - sum(map(len, dead or ()))]
    return Hits(torch.div(best, _PLACES, rounding_mode="floor") / _STEPS, _PLACES - 1 - best.remainder(_PLACES))


def cosines(rows: Tensor, other: Tensor) -> Tensor:
    """Compare rows with one other, as `nearest` does. [n, E] and [E] -> float64 [n]"""
    return (_unit(rows) @ _unit(other[None])[0]).mul(_STEPS).round() / _STEPS


def reaches(score: float, threshold: float) -> bool:
    """Whether a cosine is at least a threshold; one that equals it, up to the rounding of reports, is."""
    return score >= threshold - SAME


def _keys(queries: Tensor, rows: Tensor, start: int) -> Tensor:
    """A whole number for each pair: larger where the cosine is, and of equal cosines where the row comes first. So no
    two are equal, and their order is one. [Q, E], [n, E] -> int64 [Q, n]
    """
    steps = (queries @ _unit(rows).T).mul_(_STEPS).round_().nan_to_num_(-2 * _STEPS).long()
    places = torch.arange(start, start + len(rows), device=rows.device)
    return steps.mul_(_PLACES).add_(_PLACES - 1 - places)


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows.double(), dim=-1)


def mixed(parts: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Mix features into queries: their weighted sum, of unit length again. [Q, E] or [1, E] each -> [Q, E]

    Raises:
        ValueError: a sum is zero.
    """
    total, *others = (features * weight for features, weight in parts)
    for other in others:
        total = total + other
    if (total.norm(dim=-1) < 1e-6).any():
        raise ValueError("the weights leave nothing of the query: they are 0, or the parts cancel out; change a weight")
    return F.normalize(total, dim=-1)


def rows_at(blocks: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
    """Rows by their numbers over all blocks. -> [n, E]"""
    starts = [0]
    for block in blocks:
        starts.append(starts[-1] + len(block))
    wanted = torch.as_tensor(rows, dtype=torch.int64, device="cpu")
    where = torch.searchsorted(torch.tensor(starts, dtype=torch.int64, device="cpu"), wanted, right=True) - 1
    return torch.stack([blocks[b][r - starts[b]] for b, r in zip(where.tolist(), wanted.tolist())])


def alive_rows(blocks: Sequence[Tensor], dead: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """Copy all rows but the deleted ones into one tensor, with their numbers over all blocks. -> [N, E]"""
    parts, numbers, start = [], [], 0
    for block, gone in zip(blocks, dead):
        is_alive = torch.ones(len(block), dtype=torch.bool, device=block.device)
        is_alive[gone] = False
        parts.append(block[is_alive])
        numbers += [start + number for number in is_alive.nonzero()[:, 0].tolist()]
        start += len(block)
    return torch.cat(parts), numbers


def duplicate_groups(
    blocks: Sequence[Tensor],
    threshold: float,
    *,
    dead: Sequence[Tensor] | None = None,
    on_step: OnStep | None = None,
) -> list[list[int]]:
    """Find the connected components of the graph of pairs whose cosine is at least `threshold` (see `SAME`): groups of
    two or more rows, the largest first.

    All pairs are compared, _PAIR_ROWS x _PAIR_ROWS at a time. Time grows with the square of the number of rows, memory
    does not.
    """
    parts, start = [], 0  # (first row, rows)
    for block in blocks:
        parts += [(start + n * _PAIR_ROWS, part) for n, part in enumerate(block.split(_PAIR_ROWS)) if len(part)]
        start += len(block)
    alive = torch.ones(start, dtype=torch.bool, device=blocks[0].device if len(blocks) else "cpu")
    for number, gone in enumerate(dead or ()):
        alive[gone + sum(len(b) for b in blocks[:number])] = False
    forest = Forest(start)
    total, done = len(parts) * (len(parts) + 1) // 2, 0
    for number, (first, rows) in enumerate(parts):
        for second, others in parts[number:]:
            near = rows @ others.T >= threshold - SAME  # [n, m]
            near &= alive[first : first + len(rows), None] & alive[second : second + len(others)]
            if first == second:
                near = near.triu(1)
            _join(forest, near.cpu(), first, second)
            done += 1
            if on_step is not None:
                on_step(done, total)
    return forest.groups()


def _join(forest: Forest, near: Tensor, first: int, second: int) -> None:
    """Join rows by Boruvka's algorithm: each row and each column joins its first partner in another tree, until none
    has one. A block of equal pictures has millions of pairs and takes a few steps. `near` is on the CPU.
    """
    while near.any():
        left = torch.tensor([forest.root(first + n) for n in range(near.shape[0])])
        right = torch.tensor([forest.root(second + n) for n in range(near.shape[1])])
        near = near & (left[:, None] != right)
        for pairs, own, other in ((near, first, second), (near.T, second, first)):
            found = zip(pairs.any(1).tolist(), pairs.byte().argmax(1).tolist())
            for number, (has_partner, partner) in enumerate(found):
                if has_partner:
                    forest.join(own + number, other + partner)


class Forest:
    """Union-find over numbers. The root of a tree is its smallest number."""

    def __init__(self, size: int):
        self._above = list(range(size))

    def root(self, number: int) -> int:
        above = self._above
        while above[number] != number:
            above[number] = above[above[number]]
            number = above[number]
        return number

    def join(self, one: int, other: int) -> None:
        one, other = self.root(one), self.root(other)
        self._above[max(one, other)] = min(one, other)

    def groups(self) -> list[list[int]]:
        """The trees of two or more numbers, the largest first, then by their smallest number."""
        found: dict[int, list[int]] = {}
        for number, above in enumerate(self._above):
            if above != number:
                root = self.root(number)
                found.setdefault(root, [root]).append(number)
        return sorted(found.values(), key=lambda group: (-len(group), group[0]))
