"""Host and device told apart on a machine without a GPU: what waits lies in shared memory, what is computed in the
process's own, and Linux counts the two for itself (RssShmem, RssAnon).

As on a GPU, what a tile reads is copied to the device first. The result counts as the device's, which is too much.
"""

import mmap
import threading
from pathlib import Path

import torch

from clip_vae_lora.vae_core import sweeps

LOOK_S = 0.002


class ApartSweeps(sweeps.Sweeps):
    """Sweeps whose waiting activations are in shared memory, and are copied when they are read."""

    def room(self, channels, size):
        if self.device.type == "meta":
            return super().room(channels, size)
        # the memory lives as long as the tensor: frombuffer keeps the map
        values = channels * size[0] * size[1]
        flat = torch.frombuffer(mmap.mmap(-1, values * self.dtype.itemsize), dtype=self.dtype)
        return self.waiting(flat.view(1, *size, channels).permute(0, 3, 1, 2))

    def waiting(self, values):
        there = super().waiting(values)
        return sweeps.Activations(there.size, there.channels, lambda tile: there.read(tile).clone(), values)


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
