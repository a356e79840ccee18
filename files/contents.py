"""What a container of tensors offers before and after its data are read; each file format fills one in."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Contents:
    """Names, shapes and dtypes are known; `load` reads the data of the tensors named, and of no others."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    load: Callable[[Iterable[str]], dict[str, Tensor]]
    metadata: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()  # what is in the file and is no tensor: optimizer, callbacks, ...
    shards: Mapping[str, str] = field(default_factory=dict)  # of a sharded file: which of its parts a tensor lies in


def size_text(count: int) -> str:
    """Write a number of bytes with the decimal units of download pages: "4.27 GB"."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} bytes"
