"""One picture in sweeps: tile by tile over everything, as often as the layers need the whole's statistics.

What the next sweep reads waits, on the device or in host memory; one tile at a time is computed.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers import SCORES, Device
from ..norms import Moments, merged, parts_of
from .tiles import Size, Tile, at_level, cover
from .waiting import Bus, Waiting

OnStep = Callable[[int, int], None]  # tiles done, tiles in all; what it raises ends the work


@dataclass(frozen=True)
class Activations:
    """One picture's values at one size, to be read by the rectangle: they wait somewhere or are computed then."""

    size: Size
    channels: int
    read: Callable[[Tile], Tensor]  # -> [1, channels, height, width] on the device
    waiting: Waiting | None = None  # [1, channels, *size]


class Sweeps:
    """Runs sweeps over one picture and counts their tiles; on the device "meta" it counts only.

    Of what waits, `waiting_bytes` at most are on the device (None: all of it), the rest in host memory; `scores` of
    attention are made at once.
    """

    def __init__(
        self,
        tile: Size,
        width: int,
        dtype: torch.dtype,
        device: Device,
        on_step: OnStep | None = None,
        waiting_bytes: int | None = None,
        scores: int = SCORES,
    ):
        if min(tile) < 1:
            raise ValueError(f"a tile has at least one cell along each side, not {tile[0]} x {tile[1]} px")
        self.tile, self.width, self.dtype, self.device = tile, width, dtype, torch.device(device)
        self.on_step, self.done, self.total = on_step, 0, 0
        self.waiting_bytes, self.scores, self.bus = waiting_bytes, scores, Bus(self.device)
        self.there: weakref.WeakSet[Waiting] = weakref.WeakSet()

    def sweep(
        self,
        size: Size,
        width: int,
        each: Callable[[Tile], Tensor],
        into: Waiting | None = None,
        groups: int = 0,
        trailing: bool = False,
        most_cells: int | None = None,
        everything: bool = False,
    ) -> Moments | None:
        """`each` of the tiles that cover `size`, kept in `into`; with `groups` the moments of all of it.

        With `everything` there is one tile; with `trailing` a result waits until no later tile, with the row above it
        that a kernel reaches, can still want what it takes the place of.

        A tile that holds `width` channels has as many values as one of the picture's size and the widest layer there,
        and at most `most_cells` cells.
        """
        parts, held = [], []
        share = self.width / width
        if most_cells:
            share = min(share, most_cells / (self.tile[0] * self.tile[1]))
        for tile in cover(size, size if everything else at_level(self.tile, size, share)):
            if self.device.type != "meta":
                held = _written(held, into, tile.top - 1)
                result = each(tile)
                if groups:
                    parts += parts_of(result)
                if into is not None:
                    held.append((tile, result))
                    held = held if trailing else _written(held, into, tile.bottom)
                del result  # before the next tile needs its memory
            self.done += 1
            if self.on_step:
                self.on_step(self.done, self.total)
        _written(held, into, size[0])
        self.bus.settle()
        return merged(parts, groups) if parts else None

    def room(self, channels: int, size: Size) -> Activations:
        """Memory for activations to wait in: as many rows on the device as still may be there."""
        rows = size[0]
        if self.waiting_bytes is not None:
            left = self.waiting_bytes - sum(there.device_bytes for there in self.there)
            rows = max(0, min(rows, left // (channels * size[1] * self.dtype.itemsize)))
        last = torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
        here = torch.empty((1, channels, rows, size[1]), dtype=self.dtype, memory_format=last, device=self.device)
        waiting = Waiting(here, size, self.bus)
        self.there.add(waiting)
        return Activations(size, channels, waiting.read, waiting)

    def stored(self, values: Tensor) -> Activations:
        """Activations that are all on the device already. [1, C, H, W]"""
        waiting = self.place_of(values)
        return Activations(waiting.size, values.shape[1], waiting.read, waiting)

    def place_of(self, values: Tensor) -> Waiting:
        """A tensor on the device as a place to write results into. [1, C, H, W]"""
        return Waiting(values, (values.shape[2], values.shape[3]))


def _written(held: list[tuple[Tile, Tensor]], into: Waiting | None, row: int) -> list[tuple[Tile, Tensor]]:
    """Writes what ends above `row`; the rest."""
    for tile, values in held:
        if tile.bottom <= row:
            into.write(tile, values)
    return [(tile, values) for tile, values in held if tile.bottom > row]


def cut(values: Tensor, tile: Tile, wide: Tile) -> Tensor:
    """The tile among values of the wider one round it; a view. [B, C, h, w] -> [B, C, height, width]"""
    rows, columns = tile.inside(wide)
    return values[:, :, rows, columns]
