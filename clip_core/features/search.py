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

_SCORES = 4_000_000  # in one block: 16 MB
_PAIR_ROWS = 2048  # its square is the number of pairs in one block


@dataclass(frozen=True)
class Hits:
    """The nearest rows of each query, the nearest first; k is at most the number of rows."""

    scores: Tensor  # [Q, k] cosines
    rows: Tensor  # [Q, k] numbers of rows, over all blocks


def nearest(
    blocks: Sequence[Tensor],
    queries: Tensor,
    count: int,
    *,
    dead: Sequence[Tensor] | None = None,
    on_step: OnStep | None = None,
) -> Hits:
    """Find the `count` rows with the largest products with each query. `dead` are the deleted rows of each block.

    It runs on the blocks' device, which is the CPU for blocks on a disk: each row is used once, and the bus to a card
    is no faster than the CPU's memory.

    blocks [n, E] each, queries [Q, E], both of unit length -> [Q, k]
    """
    queries = queries.to(blocks[0].device) if len(blocks) else queries
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    total, start = sum(len(block) for block in blocks), 0
    step = max(1024, _SCORES // max(1, len(queries)))
    for number, block in enumerate(blocks):
        first = start
        for part in block.split(step):
            scores = _products(queries, part)  # [Q, n]
            if dead is not None and len(dead[number]):
                gone = dead[number].cpu() + first - start  # on the CPU, so this waits for no card
                scores[:, gone[(gone >= 0) & (gone < len(part))].to(scores.device)] = -torch.inf
            found, places = scores.topk(min(count, len(part)), dim=1)
            best, order = torch.cat((best, found), 1).sort(dim=1, descending=True, stable=True)
            rows = torch.cat((rows, places + start), 1).gather(1, order)[:, :count]
            best = best[:, :count]
            start += len(part)
            if on_step is not None:
                on_step(start, total)
    living = total - sum(map(len, dead or ()))
    return Hits(best[:, :living], rows[:, :living])


def _products(queries: Tensor, rows: Tensor) -> Tensor:
    """The products of all queries and rows; for one query the faster matrix-vector product. [Q, E], [n, E] -> [Q, n]"""
    return (rows @ queries[0])[None] if len(queries) == 1 else queries @ rows.T


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


def duplicate_groups(
    blocks: Sequence[Tensor],
    threshold: float,
    *,
    dead: Sequence[Tensor] | None = None,
    on_step: OnStep | None = None,
) -> list[list[int]]:
    """Find the connected components of the graph of pairs whose cosine is at least `threshold`: groups of two or more
    rows, the largest first.

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
            near = rows @ others.T >= threshold  # [n, m]
            near &= alive[first : first + len(rows), None] & alive[second : second + len(others)]
            if first == second:
                near = near.triu(1)
            if near.any():
                _join(forest, near, first, second)
            done += 1
            if on_step is not None:
                on_step(done, total)
    return forest.groups()


def _join(forest: Forest, near: Tensor, first: int, second: int) -> None:
    """Join rows by Boruvka's algorithm: each row and each column joins its first partner in another tree, until none
    has one. A block of equal pictures has millions of pairs and takes a few steps.
    """
    while True:
        left = torch.tensor([forest.root(first + n) for n in range(near.shape[0])])
        right = torch.tensor([forest.root(second + n) for n in range(near.shape[1])])
        near = near & (left[:, None] != right)
        if not near.any():
            return
        for pairs, own, other in ((near, first, second), (near.T, second, first)):
            with_partner = pairs.any(1).nonzero()[:, 0]
            for number, partner in zip(with_partner.tolist(), pairs[with_partner].byte().argmax(1).tolist()):
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
