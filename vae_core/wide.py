"""float64 where a device has it, and where it is found where it has not."""

import torch
from torch import Tensor

_WITHOUT = ("mps", "privateuseone")  # Apple's, and DirectML's: torch-directml names its device privateuseone


def has_float64(device: torch.device) -> bool:
    """Whether the device computes in float64. Of Intel's some do and some (Arc) do not: they are asked."""
    if device.type == "xpu":
        return bool(getattr(torch.xpu.get_device_properties(device), "has_fp64", False))
    return device.type not in _WITHOUT


def wide(values: Tensor) -> Tensor:
    """The values in float64: on their own device, or, where that has no float64, on the CPU.

    The CPU rather than pairs of float32: what is asked for here is small, asked for once, and to have the very bits
    that it has on every other machine. Any shape -> the same, float64
    """
    return (values if has_float64(values.device) else values.cpu()).double()
