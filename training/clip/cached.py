"""The gradient of a large batch in small parts, exactly, by cached gradients of features (Gao et al., 2101.06983).

All features are made without gradients, part by part; the loss of the whole batch gives the gradient of each feature;
then each part is encoded once more, with gradients, and what the loss said of its features goes back through it. So no
more than one part's activations are kept. What is drawn while a part is encoded (dropout) is drawn the second time to
the same bits. The factor on cosines gets its gradient from the one loss, once.

Of several processes each encodes its own rows, gathers all features in the order of the processes, and computes the
loss of its own rows; what all of them say of a feature is summed in the same order. The sum over the processes of what
is left in `.grad` is the whole batch's gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..device import drawn_from
from ..distributed import ProcessGroup

ROWS_AT_ONCE = 4096  # of the matrix of logits
ShareOfLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # features of pictures, of texts, rows -> the rows' share


@dataclass(frozen=True, eq=False)
class Side:
    """Pictures or texts of a batch.

    encode: first and last + 1 -> features of these rows, of length 1, float32 [n, E]. seeds: for each row, what the
    random numbers of a part that begins with it are drawn from. is_trained: whether gradients go through. counts: how
    many rows each process has, in their order; None: as even as can be.
    """

    count: int
    encode: Callable[[int, int], Tensor]
    seeds: Sequence[int]
    device: torch.device
    is_trained: bool = True
    counts: Sequence[int] | None = None

    def of_each(self, group: ProcessGroup) -> Sequence[int]:
        """How many rows each process has."""
        return shares(self.count, group.size) if self.counts is None else self.counts

    def part(self, first: int, last: int) -> Tensor:
        """Encode rows, always with the same random numbers. -> [n, E]"""
        with drawn_from(self.seeds[first], self.device):
            return self.encode(first, last)


def shares(count: int, size: int) -> list[int]:
    """How many of `count` rows each of `size` processes has, in their order, as even as can be.

    >>> shares(10, 4)
    [2, 3, 2, 3]
    """
    ends = [count * rank // size for rank in range(size + 1)]
    return [last - first for first, last in zip(ends, ends[1:])]


def backward_by_parts(
    images: Side, texts: Side, share: ShareOfLoss, at_once: int, group: ProcessGroup, rows_at_once: int = ROWS_AT_ONCE
) -> Tensor:
    """Add the gradient of a batch's loss to `.grad` of all that is trained, `at_once` pictures or texts at a time, and
    return the loss; of several processes the share of each.

    -> [], without gradients
    """
    sides = (images, texts)
    counts = [side.of_each(group) for side in sides]
    parts = [_parts(many, at_once, group.rank) for many in counts]
    first = [_first_pass(side, own) for side, own in zip(sides, parts)]
    gathered = [group.gather_rows(_joined(found, side, group), many) for found, side, many in zip(first, sides, counts)]
    leaves = [rows.clone().requires_grad_() for rows in gathered]

    total = leaves[0].new_zeros(())
    begin = sum(counts[0][: group.rank])
    own_rows = torch.arange(begin, begin + counts[0][group.rank], device=leaves[0].device)
    for rows in own_rows.split(rows_at_once) if len(own_rows) else ():
        loss = share(leaves[0], leaves[1], rows)
        loss.backward()
        total = total + loss.detach()

    for side, found, own, leaf, many in zip(sides, first, parts, leaves, counts):
        told = group.sum_rows(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad, many)
        if side.is_trained:
            _second_pass(side, found, own, told)
    return total


def _parts(many: Sequence[int], at_once: int, rank: int) -> list[tuple[int, int]]:
    """First and last + 1 of the parts of this process's rows."""
    begin = sum(many[:rank])
    end = begin + many[rank]
    return [(first, min(first + at_once, end)) for first in range(begin, end, at_once)]


def _first_pass(side: Side, parts: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The features of all parts; with gradients where there is one part alone, which is then encoded once."""
    with torch.set_grad_enabled(side.is_trained and len(parts) == 1):
        return [side.part(*part) for part in parts]


def _joined(found: Sequence[Tensor], side: Side, group: ProcessGroup) -> Tensor:
    """The features of this process's rows, without gradients; as wide as those of the others where it has no row."""
    width = max(group.gather(found[0].shape[1] if found else 0))
    return torch.cat([rows.detach() for rows in found]) if found else torch.zeros(0, width, device=side.device)


def _second_pass(side: Side, found: Sequence[Tensor], parts: Sequence[tuple[int, int]], told: Tensor) -> None:
    """Send what the loss says of this process's features back through them. [n, E]"""
    done = 0
    for (first, last), rows in zip(parts, found):
        rows = rows if len(parts) == 1 else side.part(first, last)
        rows.backward(told[done : done + last - first])
        done += last - first
