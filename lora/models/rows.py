"""Adapters of which a place takes some rows, or the halves of the rows in the other order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..kinds.adapters import Adapter, LoRA, LoRAError
from ..kinds.magnitude import DoRA
from ..kinds.whole import Difference, Replacement
from .places import Piece, Target


@dataclass(frozen=True, eq=False)
class Swapped:
    """An adapter that was trained on a weight with swapped halves of rows, such as diffusers' (scale, shift) of adaLN.

    It exchanges the halves around the inner adapter, so that the model's own order is changed.
    """

    inner: Adapter

    @property
    def kind(self) -> str:
        return self.inner.kind

    @property
    def rank(self) -> int:
        return self.inner.rank

    @property
    def alpha(self) -> float | None:
        return self.inner.alpha

    @property
    def needs_weight(self) -> bool:
        return self.inner.needs_weight

    @property
    def extent(self) -> tuple[int | None, int | None]:
        return self.inner.extent

    def misfit(self, shape: Sequence[int]) -> str | None:
        return self.inner.misfit(shape)

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter."""
        turned = _swap(weight) if isinstance(weight, Tensor) else weight
        return _swap(self.inner.delta(turned, strength, match_comfyui=match_comfyui))


@dataclass(frozen=True, eq=False)
class RowsOf:
    """Some rows of an adapter that was trained on several weights as one, such as q, k and v."""

    inner: Adapter
    first: int
    rows: int
    total: int

    @property
    def kind(self) -> str:
        return self.inner.kind

    @property
    def rank(self) -> int:
        return self.inner.rank

    @property
    def alpha(self) -> float | None:
        return self.inner.alpha

    @property
    def needs_weight(self) -> bool:
        return False

    @property
    def extent(self) -> tuple[int | None, int | None]:
        return self.rows, self.inner.extent[1]

    def misfit(self, shape: Sequence[int]) -> str | None:
        if self.inner.needs_weight:
            return f"{self.inner.kind} of several weights together cannot be taken apart: the weights are separate here"
        if shape[0] != self.rows:
            return f"its part has {self.rows} rows, the model's weight has {shape[0]}"
        return self.inner.misfit((self.total, *shape[1:]))

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter."""
        shape = tuple(weight.shape if isinstance(weight, Tensor) else weight)
        whole = self.inner.delta((self.total, *shape[1:]), strength, match_comfyui=match_comfyui)
        return whole.narrow(0, self.first, self.rows)


def at_target(adapter: Adapter, target: Target) -> Adapter:
    """The adapter as its target takes it: some of its rows, or with its halves of rows exchanged."""
    taken = rows_of(adapter, target.piece) if target.piece else adapter
    return _swap_adapter(taken) if target.swapped else taken


def rows_of(adapter: Adapter, piece: Piece) -> Adapter:
    """Rows of an adapter: those of its tensors for the plain kinds, and of what it gives for the others."""
    if (adapter.extent[0] or piece.total) == piece.total:
        if isinstance(adapter, LoRA) and adapter.mid is None and adapter.up.shape[0] == piece.total:
            return replace(adapter, up=adapter.up.narrow(0, piece.first, piece.rows))
        if isinstance(adapter, Difference | Replacement) and adapter.value.shape[0] == piece.total:
            return replace(adapter, value=adapter.value.narrow(0, piece.first, piece.rows))
        if isinstance(adapter, DoRA) and adapter.magnitude.numel() == adapter.magnitude.shape[0] == piece.total:
            magnitude = adapter.magnitude.narrow(0, piece.first, piece.rows)
            return replace(adapter, inner=rows_of(adapter.inner, piece), magnitude=magnitude)
    return RowsOf(adapter, *piece)


def exchanged(adapter: Adapter) -> Adapter | None:
    """A plain adapter with its halves of rows exchanged, to be written; None where its tensors cannot say that."""
    if isinstance(adapter, Swapped):
        return adapter.inner
    turned = _swap_adapter(adapter)
    return None if isinstance(turned, Swapped) else turned


def _swap_adapter(adapter: Adapter) -> Adapter:
    """The adapter with its halves of rows exchanged: in its tensors for the two plain kinds, around the others."""
    if isinstance(adapter, LoRA) and adapter.up.shape[0] % 2 == 0:
        return replace(adapter, up=_swap(adapter.up))
    if isinstance(adapter, Difference) and adapter.value.shape[0] % 2 == 0:
        return replace(adapter, value=_swap(adapter.value))
    return Swapped(adapter)


def _swap(rows: Tensor) -> Tensor:
    if rows.shape[0] % 2:
        raise LoRAError(f"{rows.shape[0]} rows have no halves to be exchanged")
    return torch.cat(rows.chunk(2)[::-1])
