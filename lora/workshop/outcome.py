"""The outcome of the workshop for one weight: exact factors become an adapter to be written, and what that lost."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from ..kinds.adapters import Adapter, LoRA, LoRAError, is_adapter
from ..kinds.whole import Difference
from ..kinds.widening import Widening
from ..models.places import Place
from .algebra import add, norm_of
from .gathering import Gathered, Part
from .noise import precision_of
from .thin import Thin, thin_of

AS_THE_FILES = "as the files"
DTYPES: dict[str, torch.dtype | None] = {  # what a menu offers
    AS_THE_FILES: None,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


def adapter_of(
    thin: Thin, dtype: torch.dtype, *, as_difference: bool = False, base: Sequence[int] | None = None
) -> Adapter:
    """The adapter that makes this change: a LoRA with alpha = rank, so that its scale is 1 in every tool.

    The sizes of up and down are made alike, column by row, which fp16 holds best. A change of a vector is a full
    difference, and so is a dense one if `as_difference`; `base` is the shape of the model's weight, where a control
    LoRA widens it to that of the change.

    Raises:
        LoRAError: numbers that the type cannot hold.
    """
    if len(thin.shape) < 2 or (thin.dense and as_difference):
        return Difference(_fitting(thin.change().contiguous(), dtype))
    up, down = balanced(thin.up, thin.down)
    kernel = thin.shape[2:]
    lora = LoRA(
        _fitting(up.reshape(up.shape[0], thin.rank, *[1] * len(kernel)).contiguous(), dtype),
        _fitting(down.reshape(thin.rank, *thin.shape[1:]).contiguous(), dtype),
        float(thin.rank),
    )
    widened = base is not None and math.prod(base) != math.prod(thin.shape)
    return Widening(lora, thin.shape) if widened else lora


def balanced(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """The same product, where each column of up has the norm of its row of down. [out, r], [r, in]"""
    left, right = up.norm(dim=0), down.norm(dim=1)
    both = (left > 0) & (right > 0)
    factor = torch.where(both, (right / left.clamp_min(1e-38)).sqrt(), torch.ones_like(left))
    return up * factor, down / factor[:, None]


def _fitting(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers in a type that holds them all.

    Raises:
        LoRAError: one of them is too large for it.
    """
    cast = numbers.to(dtype)
    if cast.isfinite().all():
        return cast
    kind = str(dtype).removeprefix("torch.")
    raise LoRAError(f"a change holds numbers that {kind} cannot: write the file as bf16 or fp32")


def stored(adapter: Adapter, shape: Sequence[int]) -> Thin:
    """The change that an adapter makes as it is stored, in fp64, for measuring."""
    return thin_of(adapter, shape, dtype=torch.float64)


def distance(one: Thin, other: Thin | None) -> float:
    """The norm of the difference of two changes of one weight, over the norm of the second; 0 where both are nothing.

    From products of factors in fp64 it cannot be told from 0 below some 1e-8.
    """
    if other is None:
        return math.inf if norm_of(one) else 0.0
    size = norm_of(other)
    apart = norm_of(add([one.to(torch.float64), other.to(torch.float64)], [1.0, -1.0]))
    return apart / size if size else (math.inf if apart else 0.0)


def dtype_name(dtype: torch.dtype) -> str:
    """What a menu calls a type: "fp16" for torch.float16."""
    return next((name for name, own in DTYPES.items() if own == dtype), str(dtype).removeprefix("torch."))


def widest(dtypes: Sequence[torch.dtype]) -> torch.dtype:
    """The type that holds the numbers of all: fp8 counts as fp16; fp16 and bf16 together need fp32.

    >>> widest([torch.float16, torch.bfloat16])
    torch.float32
    """
    found = torch.float16
    wide = [torch.float16 if dtype.itemsize == 1 else dtype for dtype in dtypes]
    for number, dtype in enumerate(wide):
        found = dtype if not number else torch.promote_types(found, dtype)
    return torch.float32 if found == torch.float64 else found


def dtypes_of(gathered: Gathered) -> list[torch.dtype]:
    """The floating types of the tensors of all parts."""
    parts = (part for several in gathered.layers.values() for part in several)
    return list(dict.fromkeys(tensor.dtype for tensor in _tensors(parts)))


def precision_at(gathered: Gathered, place: Place) -> torch.dtype:
    """The coarsest type that the files' numbers at a place had, whatever type they are stored in now."""
    kinds = [precision_of(tensor, tensor.dtype) for tensor in _tensors(gathered.layers[place]) if tensor.ndim > 1]
    return max(kinds, key=lambda kind: torch.finfo(kind).eps, default=torch.float32)


def _tensors(parts: Iterable[Part]) -> Iterator[Tensor]:
    """The floating tensors of adapters and of the adapters inside them."""
    adapters: list[Adapter] = [part.adapter for part in parts]
    while adapters:
        adapter = adapters.pop()
        for field in fields(adapter):
            value = getattr(adapter, field.name)
            if isinstance(value, Tensor) and value.is_floating_point():
                yield value
            elif is_adapter(value):
                adapters.append(value)
