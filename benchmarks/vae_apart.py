"""Host and device told apart on a machine without a GPU: what waits lies in shared memory, what is computed in the
process's own, and Linux counts the two for itself (RssShmem, RssAnon).

As on a GPU, what a tile reads is copied to the device first. The result counts as the device's, which is too much.
"""

import mmap
import threading
from pathlib import Path

import torch

from clip_vae_lora.vae_core.tiling import sweeps, waiting

LOOK_S = 0.002


class SharedSlabs(waiting.Bus):
    """A bus whose slabs of host memory are shared memory; a slab lives as long as the tensor: frombuffer keeps the
    map.
    """

    def slab(self):
        if self.slabs:
            return self.slabs.pop()
        return torch.frombuffer(mmap.mmap(-1, waiting.SLAB_BYTES), dtype=torch.uint8)


class ApartSweeps(sweeps.Sweeps):
    """Sweeps of which nothing waits on the device."""

    def __init__(self, tile, width, dtype, device, on_step=None, waiting_bytes=None):
        super().__init__(tile, width, dtype, device, on_step, 0 if torch.device(device).type == "cpu" else None)
        self.bus = SharedSlabs(self.device)


class OwnMemoryPeak(threading.Thread):
    """The most memory of its own that the process had at any look, every 2 ms; `stop()` gives the bytes."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.ended = 0, threading.Event()
        self.start()

    def run(self):
        status = Path("/proc/self/status")
        while not self.ended.wait(LOOK_S):
            line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
            self.most = max(self.most, int(line.split()[1]) * 1024)

    def stop(self):
        self.ended.set()
        self.join()
        return self.most
