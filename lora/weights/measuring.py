"""Measuring: the Frobenius norms of a model's weights and of the changes, from a sample of rows or from all of them.

A model of 12 billion numbers is not read for one line of a report. The squared norms of a few rows estimate that of the
weight, and their variance tells the error of the estimate.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ..kinds.adapters import Adapter, LoRA
from ..kinds.widening import Widening
from .low_rank import change_norm, frobenius

_SHARE, _MOST_ROWS, _MOST_NUMBERS = 64, 4, 2**16  # a sample is at most 1/64 of the rows, 4 rows, 65,536 numbers
_CHANGE_ROWS = 128  # rows (and columns) of a change in its sample; they are cheap products of thin factors
_WHOLE = 2**14  # numbers: a weight of no more is read whole
_TOGETHER = 32  # the number of weights or changes in one batch
_GOLDEN = 0.618  # makes the step between rows no multiple of a period in the weight, such as an attention head's width


class Stored(NamedTuple):
    """A weight in storage: values * scale, where `scale` is a single number (scaled fp8) or None.

    total: the number of the weight's rows, where `values` are a sample of them (`sample_of`) and not all.
    """

    values: Tensor
    scale: Tensor | None = None
    total: int | None = None


class Size(NamedTuple):
    """The squared Frobenius norm of a weight or change, and the variance of that estimate; 0 where it is exact."""

    squares: float
    variance: float = 0.0


class Kept(NamedTuple):
    """The result of storing changed weights again in the form of the base, which rounds them.

    asked, applied: the norm of the change that was asked for, and of the one that the stored weights then have, over
    that of the weights. arrived: the share of the one asked for that is in the one applied. A form that is not stored
    again applies what was asked.
    """

    form: str
    asked: float
    applied: float
    arrived: float


def kept_of(form: str, sums: Sequence[float]) -> Kept | None:
    """From the sums of squares of the weights, the change asked and the one applied, and of asked times applied; None
    where nothing was asked.
    """
    weights, asked, applied, product = sums
    if not (weights > 0 and asked > 0) or not math.isfinite(weights + asked + applied):
        return None
    return Kept(form, math.sqrt(asked / weights), math.sqrt(applied / weights), product / asked)


def sample_sizes(weights: Sequence[Stored]) -> list[Size]:
    """The estimated sizes of weights, each from 2 to 4 rows and at most 1/64 of them; a small weight is read whole.

    Every call takes the same rows. The variance is that of a random sample without replacement. The norms are computed
    in fp32 on the weights' device, equal shapes in one batch; the CPU waits for the card once, at the end.
    """
    rows = [own.values.detach() if own.total else _rows(own.values.detach()) for own in weights]
    alike = _group_alike((some.shape, some.dtype, some.device, own.scale is None) for some, own in zip(rows, weights))
    norms = [_row_norms([rows[n] for n in numbers], [weights[n].scale for n in numbers]) for numbers in alike]
    found = [Size(0.0)] * len(weights)
    for numbers, own in zip(alike, _on_the_cpu(norms)):
        count = len(own) // len(numbers)
        for place, number in enumerate(numbers):
            squares = [norm * norm for norm in own[place * count : (place + 1) * count]]
            found[number] = _estimate(squares, weights[number].total or _row_count(weights[number].values))
    return found


def change_size(adapter: Adapter) -> Size | None:
    """The size of a change at strength 1, from its factors alone; None where only the dense change would tell.

    A plain LoRA is estimated from 128 rows and 128 columns of the change, which read few rows of the factors; a change
    with fewer rows and columns is measured whole.
    """
    return change_sizes([adapter])[0]


def change_sizes(adapters: Sequence[Adapter]) -> list[Size | None]:
    """`change_size` of each adapter; plain LoRAs of one shape are batched, which is five times faster for hundreds."""
    found: list[Size | None] = [None] * len(adapters)
    plain: list[int] = []
    own: list[LoRA] = []
    for number, adapter in enumerate(adapters):
        adapter = adapter.inner if isinstance(adapter, Widening) else adapter
        if isinstance(adapter, LoRA) and adapter.mid is None:
            plain.append(number)
            own.append(adapter)
        elif (norm := change_norm(adapter)) is not None:
            found[number] = Size(norm * norm)
    kinds = ((a.up.shape, a.down.shape, a.up.dtype, a.down.dtype, a.up.device, a.down.device) for a in own)
    for numbers in _group_alike(kinds):
        for number, size in zip(numbers, _sizes_of_products([own[n] for n in numbers])):
            scale = own[number].scale
            found[plain[number]] = Size(size.squares * scale**2, size.variance * scale**4)
    return found


def _sizes_of_products(loras: Sequence[LoRA]) -> list[Size]:
    """The sizes of up @ down, for LoRAs of equal shapes, types and devices.

    The variance is the sum of the variances of choosing rows and of choosing columns, an upper bound for choosing both.
    """
    ups, downs = [lora.up.flatten(1) for lora in loras], [lora.down.flatten(1).mT for lora in loras]
    rows = _stack([_spread_out(up, _CHANGE_ROWS) for up in ups])  # [n, 128, r]
    columns = _stack([_spread_out(down, _CHANGE_ROWS) for down in downs])  # [n, 128, r]
    numbers, variance = len(ups[0]) * len(downs[0]), torch.zeros(len(ups), dtype=torch.float64, device=rows.device)
    for total, own, others in ((len(ups[0]), rows, columns), (len(downs[0]), columns, rows)):
        gram = others.mT @ others / others.shape[1]  # [n, r, r]
        means = ((own @ gram) * own).sum(2).clamp_min(0).double()  # [n, 128]: of squares, along it
        read = means.shape[1]
        variance += means.var(1, correction=min(1, read - 1)) * (numbers * numbers * (1 - read / total) / read)
    return [Size(*size) for size in zip((means.mean(1) * numbers).tolist(), variance.tolist())]


def _group_alike(marks: Iterable[tuple]) -> list[list[int]]:
    """The indices of equal marks, in groups of at most 32: a batch of that size stays in the CPU's cache."""
    groups: dict[tuple, list[int]] = {}
    for number, mark in enumerate(marks):
        groups.setdefault(mark, []).append(number)
    return [group[n : n + _TOGETHER] for group in groups.values() for n in range(0, len(group), _TOGETHER)]


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors of one shape and type in one batch, in fp32. n of [...] -> [n, ...]"""
    dtype = tensors[0].dtype
    if (
        dtype.itemsize == 1 and dtype.is_floating_point
    ):  # torch cannot stack fp8 on every device, but it can stack bytes
        together = torch.stack([tensor.view(torch.uint8) for tensor in tensors])
        if together.device.type != "cpu":
            return together.view(dtype).float()
        return _values_of_fp8(dtype).index_select(0, together.flatten().int()).view(together.shape)
    return torch.stack(list(tensors)).float()


@lru_cache(maxsize=8)
def _values_of_fp8(dtype: torch.dtype) -> Tensor:
    """The value of each byte: a lookup is five times faster on the CPU than torch's own conversion. -> [256]"""
    with torch.inference_mode(False):
        return torch.arange(256, dtype=torch.int32, device="cpu").to(torch.uint8).view(dtype).float()


def _estimate(squares: Sequence[float], total: int) -> Size:
    """The size of `total` rows, estimated from the squared norms of some of them."""
    read = len(squares)
    mean = math.fsum(squares) / max(1, read)
    spread = math.fsum([(square - mean) ** 2 for square in squares]) / max(1, read - 1)
    return Size(mean * total, total * total * (1 - read / total) * spread / read if read < total else 0.0)


def exact_norms(weights: Iterator[Tensor], count: int, on_step: Callable[[int, int], None]) -> list[float]:
    """The Frobenius norms of `count` weights of any floating type, every number read.

    `on_step(done, count)` follows each weight and may raise to stop. The CPU waits for the card once, at the end.
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
    """The sample of a weight's rows, as a view; all rows of a small weight. A vector is a column of rows."""
    if weight.ndim < 2:
        weight = weight.reshape(-1, 1)
    own = sample_of(weight.shape)
    return weight[own.start : own.stop : own.step]


def sample_of(shape: Sequence[int], most: int = _MOST_ROWS) -> range:
    """The numbers of the rows in the sample of a weight with at least two dimensions; all of a small weight."""
    total, width = shape[0], max(1, math.prod(shape[1:]))
    if total * width <= _WHOLE or total < 4:
        return range(total)
    return _places(total, max(2, min(total // _SHARE, most, _MOST_NUMBERS // width)))


def _spread_out(rows: Tensor, count: int) -> Tensor:
    """`count` of the rows at even distances, as a view; all rows where there are no more."""
    own = _places(len(rows), count)
    return rows[own.start : own.stop : own.step]


def _places(total: int, count: int) -> range:
    """`count` of so many places at even distances; all where there are no more."""
    if total <= count:
        return range(total)
    step = max(1, int(total / (count + _GOLDEN)))
    first = (total - 1 - (count - 1) * step) // 2
    return range(first, first + (count - 1) * step + 1, step)


def _row_norms(rows: Sequence[Tensor], scales: Sequence[Tensor | None]) -> Tensor:
    """The norms of the rows of n weights, all of which have a scale or none has. n of [k, ...] -> [n * k], fp32"""
    norms = torch.linalg.vector_norm(_stack(rows).flatten(2), dim=2)  # [n, k]
    given = [scale.detach().to(norms.device).float().abs().reshape(()) for scale in scales if scale is not None]
    if given:
        norms = norms * torch.stack(given)[:, None]
    return norms.flatten()


def _on_the_cpu(tensors: Sequence[Tensor]) -> list[list[float]]:
    """The numbers of vectors on any devices; the CPU waits for each device once."""
    by_device: dict[torch.device, list[int]] = {}
    for number, tensor in enumerate(tensors):
        by_device.setdefault(tensor.device, []).append(number)
    found: list[list[float]] = [[]] * len(tensors)
    for numbers in by_device.values():
        values = iter(torch.cat([tensors[number] for number in numbers]).cpu().tolist())
        for number in numbers:
            found[number] = list(islice(values, len(tensors[number])))
    return found
