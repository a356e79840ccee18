"""The differences between computing devices: free memory, float64, and the transfer over the bus."""

from __future__ import annotations

import torch
from torch import Tensor

ASSUMED_BYTES = 4 << 30  # free memory of a device that does not report it
_SHARE = 0.8  # of free memory, for one pass: allocators fragment it, and kernels need workspace


def budget_bytes(device: torch.device | str, free_bytes: int | None = None) -> int:
    """The memory that one pass may take on this device. `free_bytes` None: as the device reports, or ASSUMED_BYTES."""
    free = free_memory_bytes(device) if free_bytes is None else free_bytes
    return int(_SHARE * (ASSUMED_BYTES if free is None else free))


def free_memory_bytes(device: torch.device | str) -> int | None:
    """Free memory of a card, the unused cache of torch's allocator included; None for a device that reports none."""
    device = torch.device(device)
    if device.type == "cuda" and torch.cuda.is_available():
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if device.type == "mps" and hasattr(torch.mps, "recommended_max_memory"):
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    if device.type == "xpu" and hasattr(torch.xpu, "mem_get_info"):  # from torch 2.6 on
        held = torch.xpu.memory_reserved(device) - torch.xpu.memory_allocated(device)
        return torch.xpu.mem_get_info(device)[0] + held
    return None


def has_float64(device: torch.device | str) -> bool:
    """Whether this device computes in float64. MPS and most Intel cards do not; an unknown device is taken not to."""
    device = torch.device(device)
    if device.type == "xpu":
        return bool(torch.xpu.get_device_properties(device).has_fp64)
    return device.type in ("cpu", "cuda", "meta")


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Move a CPU tensor to the device. To CUDA it goes through pinned memory, and the CPU does not wait for it."""
    device = torch.device(device)
    if device.type != "cuda" or tensor.device.type != "cpu" or not torch.cuda.is_available():
        return tensor.to(device)
    try:
        pinned = tensor.pin_memory()
    except RuntimeError:  # the driver may refuse to pin more: an ordinary copy is slower and gives the same numbers
        return tensor.to(device)
    return pinned.to(device, non_blocking=True)
