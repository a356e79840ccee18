"""Activations stored between sweeps: on the device as far as its memory allows, the rest in host memory.

In host memory they lie rows first, channels last, in slabs of one size, pinned where the system can: so every row is
contiguous and a copy of rows is one transfer. A Bus transfers while the device computes. The program never waits for a
transfer: the kernels that depend on it wait for it on the device.
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
    """One direction between a device and host memory: a stream of its own, and two buffers on the device in turn.

    A buffer is filled again only when its last transfer is done, and the device waits for that, not the program: so two
    are enough however far the program is ahead. `streams` is torch.cuda or torch.xpu, or None: then the copies are in
    order with the computing.
    """

    def __init__(self, device: torch.device, streams: ModuleType | None):
        self.device, self.streams = device, streams
        self.stream = None if streams is None else streams.Stream(device)
        self.buffers: list[Tensor | None] = [None, None]
        self.through: list[object] = [None, None]  # events: the buffer's last transfer is done
        self.turn = 0

    def send(self, values: Tensor, into: Tensor) -> None:
        """Copy from the device to the host. [1, C, h, w] -> [h, w, C]"""
        packed = self._next(into.shape, values.dtype)
        if self.streams is None or self.stream is None:
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
        """Copy from the host to the device, as soon as a buffer is free. [h, w, C] -> [1, C, h, w]"""
        packed = self._next(values.shape, values.dtype)
        if self.streams is None or self.stream is None:
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
            if self.streams is not None and self.stream is not None:
                buffer.record_stream(self.stream)  # when it is given up, a transfer may still be under way
                # its memory may still be read by what was computed before
                self.through[self.turn] = self.streams.current_stream(self.device).record_event()
        return buffer[:count].view(shape)


class Bus:
    """The two lanes of one device, and the free slabs of host memory."""

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
            except RuntimeError:  # the system pins no more; pageable memory is slower and as good
                self.pins = False
        return torch.empty(SLAB_BYTES, dtype=torch.uint8, device="cpu")

    def settle(self) -> None:
        """Make later fetches wait, on the device, for all that was sent before."""
        if self.up.stream is not None:
            self.up.stream.wait_stream(self.down.stream)


class Waiting:
    """One picture's stored activations at one size: upper rows on the device, lower rows in slabs of host memory."""

    def __init__(self, here: Tensor, size: Size, bus: Bus):
        """`here` is [1, C, rows, W] with all rows or the upper ones; the others go over the bus."""
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
        """The bytes of the rows on the device."""
        return self.here.numel() * self.here.element_size()

    def read(self, tile: Tile) -> Tensor:
        """The tile's values on the device; a view where all of its rows are there. -> [1, C, height, width]"""
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
        """Store the tile's values. [1, C, height, width]"""
        if tile.top < self.rows:
            here = self.here[:, :, tile.top : tile.bottom, tile.left : tile.right]
            here.copy_(values[:, :, : here.shape[2]])
        for top, bottom, piece in self._pieces(tile):
            self.bus.down.send(values[:, :, top - tile.top : bottom - tile.top], piece)

    def _pieces(self, tile: Tile) -> Iterator[tuple[int, int, Tensor]]:
        """The contiguous pieces of a tile in host memory, each with its first row and the row behind its last.

        A piece is the tile's rows in one slab, or a single row where the tile is narrower than the picture. [h, w, C]
        """
        top, whole_rows = max(tile.top, self.rows), tile.size[1] == self.size[1]
        while top < tile.bottom:
            number, row = divmod(top - self.rows, self.slab_rows)
            bottom = min(tile.bottom, top + (self.slab_rows - row if whole_rows else 1))
            yield top, bottom, self.slabs[number][row : row + bottom - top, tile.left : tile.right]
            top = bottom
