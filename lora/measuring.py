"""How large the weights of a model are, beside which a change is told: from some of their rows, or from all of them.

A model of 12 billion numbers is not read for one line of a report. The squares of a few rows tell the norm of a weight,
and how far they lie apart tells how far off that may be.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from .adapters import Adapter, LoRA
from .low_rank import change_norm, frobenius

_SHARE, _MOST_ROWS, _MOST_NUMBERS = 64, 4, 2**16  # at most 1/64 of a weight's rows, 4 of them, and 65,536 numbers
_CHANGE_ROWS = 128  # of a change, which cost little: they are made of thin factors
_WHOLE = 2**14  # numbers: a weight no larger than that is read whole
_GOLDEN = 0.618  # a step that is no multiple of what repeats in a weight, such as the width of an attention head


class Stored(NamedTuple):
    """A weight as it lies there, and the factor, one number, that makes its values of what is stored (scaled fp8)."""

    values: Tensor
    scale: Tensor | None = None


class Size(NamedTuple):
    """The squared Frobenius norm of a weight, and the variance of that where it is an estimate, 0 where it is exact."""

    squares: float
    variance: float = 0.0


def sampled(weights: Sequence[Stored]) -> list[Size]:
    """The sizes of weights, each from at most 4 rows and 1/64 of its rows, at least two; small ones from all.

    Which rows is the same at every call. The variance is that of a random sample without replacement. Computed in fp32
    where the weights are; the card is waited for once, at the end.
    """
    norms = [_row_norms(_rows(stored.values), stored.scale) for stored in weights]
    return [
        _estimate([norm * norm for norm in own], _row_count(stored.values))
        for own, stored in zip(_on_the_cpu(norms), weights)
    ]


def change_size(adapter: Adapter) -> Size | None:
    """The size of a change at strength 1, from its factors alone; None where only making the change would tell.

    Of a plain LoRA 128 rows of the change are measured, or as many of its columns where those are more: all of the
    shorter factor is read, and little of the longer one.
    """
    if not isinstance(adapter, LoRA) or adapter.mid is not None:
        norm = change_norm(adapter)
        return None if norm is None else Size(norm * norm)
    long, short = adapter.up.flatten(1), adapter.down.flatten(1).mT      # [out, r], [in * kh * kw, r]
    if len(long) < len(short):
        long, short = short, long
    some, short = _spread(long, _CHANGE_ROWS).float(), short.float()
    squares = ((some @ (short.mT @ short)) * some).sum(1)                # [n]: of each row's length in the change
    size = _estimate(squares.clamp_min(0).tolist(), len(long))
    return Size(size.squares * adapter.scale**2, size.variance * adapter.scale**4)


def _estimate(squares: Sequence[float], total: int) -> Size:
    """From the squared lengths of some rows the size of all of them."""
    read = len(squares)
    mean = math.fsum(squares) / max(1, read)
    spread = math.fsum((square - mean) ** 2 for square in squares) / max(1, read - 1)
    return Size(mean * total, total * total * (1 - read / total) * spread / read if read < total else 0.0)


def exact(weights: Iterator[Tensor], count: int, on_step: Callable[[int, int], None]) -> list[float]:
    """The Frobenius norms of `count` weights of any floating type, one after the other; `on_step(done, count)` may
    raise to stop it. A card is waited for once, at the end.
    """
    found: list[Tensor] = []
    for done, weight in enumerate(weights, 1):
        if weight.device.type == "cpu":
            found.append(torch.tensor([frobenius(weight)], dtype=torch.float64, device="cpu"))
        else:
            wide = weight.float() if weight.element_size() == 1 else weight
            found.append(torch.linalg.vector_norm(wide, dtype=torch.float32).reshape(1))
        on_step(done, count)
    return [own[0] for own in _on_the_cpu(found)]


def _row_count(weight: Tensor) -> int:
    return weight.numel() if weight.ndim < 2 else len(weight)


def _rows(weight: Tensor) -> Tensor:
    """Some rows of a weight, as a view; all of a small one, whose rows are its numbers where it has one dimension."""
    if weight.ndim < 2:
        weight = weight.reshape(-1, 1)
    total, width = len(weight), max(1, weight[0].numel())
    if weight.numel() <= _WHOLE or total < 4:
        return weight
    return _spread(weight, max(2, min(total // _SHARE, _MOST_ROWS, _MOST_NUMBERS // width)))


def _spread(rows: Tensor, count: int) -> Tensor:
    """So many of the rows, at even distances, as a view; all of them where they are no more."""
    if len(rows) <= count:
        return rows
    step = max(1, int(len(rows) / (count + _GOLDEN)))
    first = (len(rows) - 1 - (count - 1) * step) // 2
    return rows[first : first + (count - 1) * step + 1 : step]


def _row_norms(rows: Tensor, scale: Tensor | None) -> Tensor:
    """[n, ...] -> [n], fp32"""
    norms = torch.linalg.vector_norm(rows.detach().float().flatten(1), dim=1)
    return norms if scale is None else norms * scale.detach().to(norms.device).float().abs().reshape(())


def _on_the_cpu(tensors: Sequence[Tensor]) -> list[list[float]]:
    """The numbers of vectors on any devices; each device is waited for once."""
    by_device: dict[torch.device, list[int]] = {}
    for number, tensor in enumerate(tensors):
        by_device.setdefault(tensor.device, []).append(number)
    found: list[list[float]] = [[]] * len(tensors)
    for numbers in by_device.values():
        values = iter(torch.cat([tensors[number] for number in numbers]).cpu().tolist())
        for number in numbers:
            found[number] = list(islice(values, len(tensors[number])))
    return found
