"""Sweeps over one picture: each computes tile after tile, stores the result and collects its moments.

A network needs as many sweeps as its layers need statistics of the whole picture. The activations between two sweeps
are stored on the device or in host memory; only one tile at a time is computed.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers import SCORES
from ..norms import Moments, Part, merged, parts_of
from .tiles import Size, Tile, at_level, cover
from .waiting import Bus, Waiting

OnStep = Callable[[int, int], None]  # steps done, steps in all; what it raises ends the work


@dataclass(frozen=True)
class Activations:
    """One picture's activations at one size, read tile by tile: stored ones, or recomputed at each read."""

    size: Size
    channels: int
    read: Callable[[Tile], Tensor]  # -> [1, channels, height, width] on the device


@dataclass(frozen=True)
class Stored(Activations):
    """Activations that are stored, so that a sweep can also write into them."""

    waiting: Waiting  # [1, channels, *size]


class Sweeps:
    """Runs sweeps over one picture and counts their tiles; on the device "meta" it only counts.

    tile: height and width in px; width: channels of the widest layer at the picture's size. At most `waiting_bytes` of
    the stored activations are on the device (None: all), the rest in host memory. scores: the most attention scores
    that are computed at once.
    """

    def __init__(
        self,
        tile: Size,
        width: int,
        dtype: torch.dtype,
        device: torch.device | str,
        on_step: OnStep | None = None,
        waiting_bytes: int | None = None,
        scores: int = SCORES,
    ):
        if min(tile) < 1:
            raise ValueError(f"a tile has at least one cell along each side, not {tile[0]} x {tile[1]} px")
        self.tile, self.width, self.dtype, self.device = tile, width, dtype, torch.device(device)
        self.on_step, self.done, self.total = on_step, 0, 0
        self.waiting_bytes, self.scores, self.bus = waiting_bytes, scores, Bus(self.device)
        self.stores: weakref.WeakSet[Waiting] = weakref.WeakSet()

    def sweep(
        self,
        size: Size,
        width: int,
        compute: Callable[[Tile], Tensor],
        into: Waiting | None = None,
        groups: int = 0,
        trailing: bool = False,
        most_cells: int | None = None,
        everything: bool = False,
        steps: int = 1,
    ) -> Moments:
        """Compute the tiles that cover `size`, write them into `into`, and return the result's moments.

        Args:
            width: channels that a tile holds while it is computed. A tile has as many values as one of `self.tile` px
                with `self.width` channels, so fewer cells where the layers are wider.
            into: where the result is stored; None drops it.
            groups: channel groups of the norm that follows; 0, or the device "meta", gives moments without values.
            trailing: `into` is also being read. A tile is written back only after the tile below it, which still reads
                its last row, is done.
            most_cells: the most cells of a tile.
            everything: one tile covers everything.
            steps: how many steps of the work a tile is; all but the last are `compute`'s to tell, with `step`.
        """
        parts: list[Part] = []
        unwritten: list[tuple[Tile, Tensor]] = []
        share = self.width / width
        if most_cells:
            share = min(share, most_cells / (self.tile[0] * self.tile[1]))
        for tile in cover(size, size if everything else at_level(self.tile, size, share)):
            if self.device.type != "meta":
                # tiles come row by row, so whatever ends above this tile's halo is read no more
                unwritten = _write_above(unwritten, into, tile.top - 1)
                result = compute(tile)
                if groups:
                    parts += parts_of(result)
                if into is not None:
                    unwritten.append((tile, result))
                    unwritten = unwritten if trailing else _write_above(unwritten, into, tile.bottom)
                del result  # before the next tile needs its memory
            else:
                self.done += steps - 1
            self.step()
        _write_above(unwritten, into, size[0])
        self.bus.settle()
        return merged(parts, groups) if parts else Moments(torch.empty(0), torch.empty(0))

    def step(self) -> None:
        """Count one step as done, and tell `on_step`, which may end the work."""
        self.done += 1
        if self.on_step:
            self.on_step(self.done, self.total)

    def room(self, channels: int, size: Size) -> Stored:
        """Memory for activations: as many rows on the device as `waiting_bytes` leaves, the others on the host."""
        rows = size[0]
        if self.waiting_bytes is not None:
            left = self.waiting_bytes - sum(store.device_bytes for store in self.stores)
            rows = max(0, min(rows, left // (channels * size[1] * self.dtype.itemsize)))
        last = torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
        here = torch.empty((1, channels, rows, size[1]), dtype=self.dtype, memory_format=last, device=self.device)
        waiting = Waiting(here, size, self.bus)
        self.stores.add(waiting)
        return Stored(size, channels, waiting.read, waiting)

    def stored(self, values: Tensor) -> Stored:
        """Activations that are all on the device already. [1, C, H, W]"""
        waiting = Waiting(values, (values.shape[2], values.shape[3]), self.bus)
        return Stored(waiting.size, values.shape[1], waiting.read, waiting)


def _write_above(unwritten: list[tuple[Tile, Tensor]], into: Waiting | None, row: int) -> list[tuple[Tile, Tensor]]:
    """Write the tiles that end above `row`; return the others."""
    if into is not None:
        for tile, values in unwritten:
            if tile.bottom <= row:
                into.write(tile, values)
    return [(tile, values) for tile, values in unwritten if tile.bottom > row]


def cut(values: Tensor, tile: Tile, wide: Tile) -> Tensor:
    """The tile without the halo that makes it `wide`; a view. [B, C, h, w] -> [B, C, height, width]"""
    rows, columns = tile.inside(wide)
    return values[:, :, rows, columns]
