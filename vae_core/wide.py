"""float64 on every device: on the device itself, or on the CPU for a device without it."""

import torch
from torch import Tensor

_WITHOUT = ("mps", "privateuseone")  # Apple's, and DirectML's: torch-directml names its device privateuseone


def has_float64(device: torch.device) -> bool:
    """Whether the device computes in float64. Some of Intel's do, others (Arc) do not: torch tells."""
    if device.type == "xpu":
        return bool(getattr(torch.xpu.get_device_properties(device), "has_fp64", False))
    return device.type not in _WITHOUT


def wide(values: Tensor) -> Tensor:
    """Convert to float64: on the values' own device, or, where that has no float64, on the CPU.

    The CPU rather than pairs of float32: these values are few, converted once, and have to give the same bits on every
    machine. Any shape -> the same, float64
    """
    return (values if has_float64(values.device) else values.cpu()).double()
