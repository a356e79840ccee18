"""A file in a dialect, one adapter at a time: nothing is kept of an adapter but what the header says of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import NamedTuple

import torch
from torch import Tensor

from ...formats.dialects import DIALECTS, STORED
from ...formats.writing import header_of, write
from ...kinds.adapters import Adapter, LoRAError, is_adapter
from ...models.conversion import Renamer
from ...models.places import Place
from ..sizing import Spell

Put = Callable[[str, Tensor], None]


class _Outline(NamedTuple):
    """An adapter without its numbers: its class, and of each field the value, the outline, or the numbers' type and
    shape. It has no memory in torch's allocator: a small piece that stays there between two layers keeps what was freed
    around it from being used for the next large one.
    """

    kind: type
    told: dict[str, object]


class _Numbers(NamedTuple):
    dtype: torch.dtype
    shape: tuple[int, ...]


class Piecewise:
    """Spells the adapters of one model in one dialect as they come.

    shapes: the keys and shapes of the model. put: takes each tensor of the file by its name.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], dialect: str, put: Put) -> None:
        if dialect not in DIALECTS:
            raise LoRAError(f"the dialect is {dialect!r}: expected one of {', '.join(DIALECTS)}")
        self.dialect = dialect
        self._renamer, self._put = Renamer(shapes, dialect), put
        self._written: dict[str, _Outline] = {}

    def take(self, key: str, adapter: Adapter) -> str:
        """Write the adapter of a weight; "" where it was written, else why the dialect cannot hold it."""
        renamed = self._renamer.rename({key: adapter})
        if renamed.unnamed:
            return next(iter(renamed.unnamed.values()))
        try:
            tensors, _ = write(renamed.named, self.dialect)
        except LoRAError:
            kind = adapter.kind
            return f"{kind}, which {self.dialect} files cannot hold"
        for name, tensor in tensors.items():
            self._put(name, tensor)
        self._written |= {name: _outline(own) for name, own in renamed.named.items()}
        return ""

    def header(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """The header of the file, with these texts."""
        return header_of({name: _adapter(own) for name, own in self._written.items()}, self.dialect, metadata)


def spell_of(shapes: Mapping[str, Sequence[int]], dialect: str, metadata: Mapping[str, str]) -> Spell:
    """A function that gives the tensors and the header of the file of some adapters of a model."""
    renamer = Renamer(shapes, dialect)

    def spell(adapters: Mapping[Place, Adapter]) -> tuple[dict[str, Tensor], dict[str, str]]:
        kept = {
            name: own
            for name, own in renamer.rename(adapters).named.items()
            if DIALECTS[dialect].alpha == STORED or own.rank
        }
        return write(kept, dialect, metadata)

    return spell


def _outline(adapter: Adapter) -> _Outline:
    told: dict[str, object] = {}
    for field in fields(adapter):
        value = getattr(adapter, field.name)
        if isinstance(value, Tensor):
            told[field.name] = _Numbers(value.dtype, tuple(value.shape))
        else:
            told[field.name] = _outline(value) if is_adapter(value) else value
    return _Outline(type(adapter), told)


def _adapter(outline: _Outline) -> Adapter:
    """The adapter with numbers that take no memory."""
    made: dict[str, object] = {}
    for name, value in outline.told.items():
        if isinstance(value, _Numbers):
            made[name] = torch.empty(value.shape, dtype=value.dtype, device="meta")
        else:
            made[name] = _adapter(value) if isinstance(value, _Outline) else value
    return outline.kind(**made)
