"""Where a run without ComfyUI finds and puts things, who is told of its progress, and what it computes on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ....training.device import best_device


@dataclass
class _Place:
    """What a ComfyUI server would know: where things lie, and who is told of progress."""

    models: Path = Path(__file__).resolve().parents[3] / "models"
    temp: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "clip_vae_lora")
    on_step: Callable[[int, int], None] = lambda done, total: None
    output: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "clip_vae_lora" / "output")
    inputs: Sequence[Path] = ()
    device: torch.device | None = None


HERE = _Place()


def set_device(device: torch.device | None) -> None:
    """What networks compute on from now on; None: the card, where there is one."""
    HERE.device = device


def device() -> torch.device:
    return best_device() if HERE.device is None else HERE.device


def free_device_bytes(place: torch.device) -> int | None:
    """Return the free memory of a device, unused memory of torch's allocator included; for the CPU and MPS, which
    share memory, the computer's. None if unknown.
    """
    if place.type in ("cpu", "mps"):
        return free_memory_bytes()
    backend = getattr(torch, place.type, None)
    if not hasattr(backend, "mem_get_info"):
        return None
    held = backend.memory_reserved(place) - backend.memory_allocated(place)
    return backend.mem_get_info(place)[0] + held


def free_memory_bytes() -> int | None:
    """Return the computer's free memory; None if the system does not say."""
    table = Path("/proc/meminfo")
    if table.is_file():
        for line in table.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
