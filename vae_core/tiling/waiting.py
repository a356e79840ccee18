"""Where activations wait between sweeps: on the device as far as they may, the rest in host memory.

What waits in host memory lies rows first, channels last, in slabs of one size that are pinned where the system can:
so every row is one piece of memory and a copy of rows one transfer. A Bus makes the transfers beside the computing.
The program never waits for one: what depends on a transfer waits for it on the device.
"""

import weakref
from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor

from .tiles import Size, Tile

SLAB_BYTES = 64 << 20  # a power of two, which is what torch's keeper of pinned memory rounds up to
_STREAMED = frozenset({"cuda", "xpu"})  # where torch has streams and pinned memory


class Lane:
    """One way between a device and host memory: a stream of its own, and two buffers on the device in turn.

    Whoever fills a buffer again waits on the device until what was in it is through, so two are enough however far the
    program is ahead. `streams` is torch.cuda or torch.xpu, or None: then the copies are in order with the computing.
    """

    def __init__(self, device: torch.device, streams: ModuleType | None):
        self.device, self.streams = device, streams
        self.stream = None if streams is None else streams.Stream(device)
        self.buffers: list[Tensor | None] = [None, None]
        self.through: list[object] = [None, None]  # events: what was in a buffer is through
        self.turn = 0

    def send(self, values: Tensor, into: Tensor) -> None:
        """From the device to the host. [1, C, h, w] -> [h, w, C]"""
        packed = self._next(into.shape, values.dtype)
        if self.stream is None:
            into.copy_(packed.copy_(values[0].permute(1, 2, 0)), non_blocking=True)
            return
        computing = self.streams.current_stream(self.device)
        if self.through[self.turn] is not None:
            computing.wait_event(self.through[self.turn])
        packed.copy_(values[0].permute(1, 2, 0))
        self.stream.wait_stream(computing)
        with self.streams.stream(self.stream):
            into.copy_(packed, non_blocking=True)
            self.through[self.turn] = self.stream.record_event()

    def fetch(self, values: Tensor, into: Tensor) -> None:
        """From the host to the device; it may start as soon as a buffer is free. [h, w, C] -> [1, C, h, w]"""
        packed = self._next(values.shape, values.dtype)
        if self.stream is None:
            into[0].copy_(packed.copy_(values, non_blocking=True).permute(2, 0, 1))
            return
        computing = self.streams.current_stream(self.device)
        if self.through[self.turn] is not None:
            self.stream.wait_event(self.through[self.turn])
        with self.streams.stream(self.stream):
            packed.copy_(values, non_blocking=True)
            there = self.stream.record_event()
        computing.wait_event(there)
        into[0].copy_(packed.permute(2, 0, 1))
        self.through[self.turn] = computing.record_event()

    def _next(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The buffer whose turn it is, in this shape."""
        self.turn = 1 - self.turn
        count = shape[0] * shape[1] * shape[2]
        buffer = self.buffers[self.turn]
        if buffer is None or buffer.numel() < count or buffer.dtype != dtype:
            self.buffers[self.turn] = buffer = torch.empty(count, dtype=dtype, device=self.device)
            if self.stream is not None:
                buffer.record_stream(self.stream)  # when it is given up, a transfer may still be under way
                # its memory may still be read by what was computed before
                self.through[self.turn] = self.streams.current_stream(self.device).record_event()
        return buffer[:count].view(shape)


class Bus:
    """The two lanes of one device, and the slabs of host memory that are free."""

    def __init__(self, device: torch.device, streams: ModuleType | None = None):
        own = getattr(torch, device.type) if device.type in _STREAMED else None
        self.pins = streams is None and own is not None and own.is_available()
        self.streams = own if self.pins else streams
        self.down, self.up = Lane(device, self.streams), Lane(device, self.streams)
        self.slabs: list[Tensor] = []

    def slab(self) -> Tensor:
        """SLAB_BYTES of host memory, pinned while the system gives any. -> uint8 [SLAB_BYTES]"""
        if self.slabs:
            return self.slabs.pop()
        if self.pins:
            try:
                return torch.empty(SLAB_BYTES, dtype=torch.uint8, device="cpu", pin_memory=True)
            except RuntimeError:  # no more of it can be pinned; what is not is slower and as good
                self.pins = False
        return torch.empty(SLAB_BYTES, dtype=torch.uint8, device="cpu")

    def settle(self) -> None:
        """What is fetched from here on was sent before: the device sees to it."""
        if self.up.stream is not None:
            self.up.stream.wait_stream(self.down.stream)


class Waiting:
    """One picture's values at one size: the upper rows on the device, those below in slabs of host memory."""

    def __init__(self, here: Tensor, size: Size, bus: Bus | None = None):
        """`here` is [1, C, rows, W] with all rows or the upper ones; the others need a bus."""
        self.here, self.size, self.rows, self.bus = here, size, here.shape[2], bus
        self.slabs: list[Tensor] = []
        self.slab_rows = size[0]
        if self.rows < size[0]:
            row_bytes = here.shape[1] * size[1] * here.element_size()
            if row_bytes > SLAB_BYTES:
                raise ValueError(
                    f"one row of this picture is {row_bytes / 1e6:,.0f} MB in the network, more than "
                    f"{SLAB_BYTES / 1e6:,.0f} MB: use a narrower picture"
                )
            self.slab_rows = SLAB_BYTES // row_bytes
            count = -(-(size[0] - self.rows) // self.slab_rows)
            flat = [bus.slab() for _ in range(count)]
            weakref.finalize(self, bus.slabs.extend, flat).atexit = False
            self.slabs = [
                slab[: self.slab_rows * row_bytes].view(here.dtype).view(self.slab_rows, size[1], -1) for slab in flat
            ]

    @property
    def device_bytes(self) -> int:
        """What of it is on the device."""
        return self.here.numel() * self.here.element_size()

    def read(self, tile: Tile) -> Tensor:
        """The tile's values on the device, a view where they lie there. -> [1, C, height, width]"""
        columns = slice(tile.left, tile.right)
        if tile.bottom <= self.rows:
            return self.here[:, :, tile.top : tile.bottom, columns]
        out = torch.empty((1, self.here.shape[1], *tile.size), dtype=self.here.dtype, device=self.here.device)
        if tile.top < self.rows:
            out[:, :, : self.rows - tile.top] = self.here[:, :, tile.top :, columns]
        for top, bottom, piece in self._pieces(tile):
            self.bus.up.fetch(piece, out[:, :, top - tile.top : bottom - tile.top])
        return out

    def write(self, tile: Tile, values: Tensor) -> None:
        """[1, C, height, width]"""
        if tile.top < self.rows:
            here = self.here[:, :, tile.top : tile.bottom, tile.left : tile.right]
            here.copy_(values[:, :, : here.shape[2]])
        for top, bottom, piece in self._pieces(tile):
            self.bus.down.send(values[:, :, top - tile.top : bottom - tile.top], piece)

    def _pieces(self, tile: Tile) -> Iterator[tuple[int, int, Tensor]]:
        """First and last row of each piece of a tile in host memory that is one piece of memory there, and the piece:
        rows in one slab, or where the tile is narrower than the picture one row. [h, w, C]
        """
        top, whole_rows = max(tile.top, self.rows), tile.size[1] == self.size[1]
        while top < tile.bottom:
            number, row = divmod(top - self.rows, self.slab_rows)
            bottom = min(tile.bottom, top + (self.slab_rows - row if whole_rows else 1))
            yield top, bottom, self.slabs[number][row : row + bottom - top, tile.left : tile.right]
            top = bottom
