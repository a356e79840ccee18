"""How large the weights of a model are, beside which a change is told: from some of their rows, or from all of them.

A model of 12 billion numbers is not read for one line of a report. The squares of a few rows tell the norm of a weight,
and how far they lie apart tells how far off that may be.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ..kinds.adapters import Adapter, LoRA
from .low_rank import change_norm, frobenius

_SHARE, _MOST_ROWS, _MOST_NUMBERS = 64, 4, 2**16  # at most 1/64 of a weight's rows, 4 of them, and 65,536 numbers
_CHANGE_ROWS = 128  # of a change, and as many columns, which cost little: they are made of thin factors
_WHOLE = 2**14  # numbers: a weight no larger than that is read whole
_TOGETHER = 32  # weights or changes that are measured at one time
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
    where the weights are, those of one shape together; the card is waited for once, at the end.
    """
    rows = [_rows(stored.values.detach()) for stored in weights]
    alike = _alike((some.shape, some.dtype, some.device, own.scale is None) for some, own in zip(rows, weights))
    norms = [_row_norms([rows[n] for n in numbers], [weights[n].scale for n in numbers]) for numbers in alike]
    found = [Size(0.0)] * len(weights)
    for numbers, own in zip(alike, _on_the_cpu(norms)):
        count = len(own) // len(numbers)
        for place, number in enumerate(numbers):
            squares = [norm * norm for norm in own[place * count : (place + 1) * count]]
            found[number] = _estimate(squares, _row_count(weights[number].values))
    return found


def change_size(adapter: Adapter) -> Size | None:
    """The size of a change at strength 1, from its factors alone; None where only making the change would tell.

    Of a plain LoRA 128 rows and 128 columns of the change are made and measured where they cross, so that of the
    factors little is read; all of them where they are no more.
    """
    return change_sizes([adapter])[0]


def change_sizes(adapters: Sequence[Adapter]) -> list[Size | None]:
    """`change_size` of each; plain LoRAs of one shape are measured together, which for hundreds takes a fifth of it."""
    found: list[Size | None] = [None] * len(adapters)
    plain = []
    for number, adapter in enumerate(adapters):
        if isinstance(adapter, LoRA) and adapter.mid is None:
            plain.append(number)
        elif (norm := change_norm(adapter)) is not None:
            found[number] = Size(norm * norm)
    own = [adapters[number] for number in plain]
    kinds = ((a.up.shape, a.down.shape, a.up.dtype, a.down.dtype, a.up.device, a.down.device) for a in own)
    for numbers in _alike(kinds):
        for number, size in zip(numbers, _sizes_of_products([own[n] for n in numbers])):
            scale = own[number].scale
            found[plain[number]] = Size(size.squares * scale**2, size.variance * scale**4)
    return found


def _sizes_of_products(loras: Sequence[LoRA]) -> list[Size]:
    """Of up @ down, for LoRAs that are alike.

    The variance is the sum of those of choosing rows and of choosing columns, which is not less than that of both.
    """
    ups, downs = [lora.up.flatten(1) for lora in loras], [lora.down.flatten(1).mT for lora in loras]
    rows = _stacked([_spread(up, _CHANGE_ROWS) for up in ups])  # [n, 128, r]
    columns = _stacked([_spread(down, _CHANGE_ROWS) for down in downs])  # [n, 128, r]
    numbers, variance = len(ups[0]) * len(downs[0]), 0.0
    for total, own, others in ((len(ups[0]), rows, columns), (len(downs[0]), columns, rows)):
        gram = others.mT @ others / others.shape[1]  # [n, r, r]
        means = ((own @ gram) * own).sum(2).clamp_min(0).double()  # [n, 128]: of squares, along it
        read = means.shape[1]
        variance += means.var(1, correction=min(1, read - 1)) * (numbers * numbers * (1 - read / total) / read)
    return [Size(*size) for size in zip((means.mean(1) * numbers).tolist(), variance.tolist())]


def _alike(marks: Iterable[tuple]) -> list[list[int]]:
    """The numbers of equal marks together, at most 32: what is made of them at one time stays in the cache."""
    groups: dict[tuple, list[int]] = {}
    for number, mark in enumerate(marks):
        groups.setdefault(mark, []).append(number)
    return [group[n : n + _TOGETHER] for group in groups.values() for n in range(0, len(group), _TOGETHER)]


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """n of one shape and type -> [n, ...] in fp32"""
    dtype = tensors[0].dtype
    if dtype.itemsize == 1 and dtype.is_floating_point:  # torch does not join fp8 everywhere, but bytes
        together = torch.stack([tensor.view(torch.uint8) for tensor in tensors])
        if together.device.type != "cpu":
            return together.view(dtype).float()
        return _values_of_fp8(dtype).index_select(0, together.flatten().int()).view(together.shape)
    return torch.stack(list(tensors)).float()


@lru_cache(maxsize=8)
def _values_of_fp8(dtype: torch.dtype) -> Tensor:
    """What each byte stands for: looked up on the CPU, where torch's own way takes five times as long. -> [256]"""
    with torch.inference_mode(False):
        return torch.arange(256, dtype=torch.int32, device="cpu").to(torch.uint8).view(dtype).float()


def _estimate(squares: Sequence[float], total: int) -> Size:
    """From the squared lengths of some rows the size of all of them."""
    read = len(squares)
    mean = math.fsum(squares) / max(1, read)
    spread = math.fsum([(square - mean) ** 2 for square in squares]) / max(1, read - 1)
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


def _row_norms(rows: Sequence[Tensor], scales: Sequence[Tensor | None]) -> Tensor:
    """n of [k, ...], each with a scale or none with one -> [n * k], fp32"""
    norms = torch.linalg.vector_norm(_stacked(rows).flatten(2), dim=2)  # [n, k]
    if scales[0] is not None:
        own = torch.stack([scale.detach().to(norms.device).float().abs().reshape(()) for scale in scales])
        norms = norms * own[:, None]
    return norms.flatten()


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
