"""The type of activations, apart from that of the weights: float32, which is exact, or a half, for tensor cores."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from .resnet import BatchNorm

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
EXACT = "fp32"

Network = TypeVar("Network", bound=nn.Module)


def as_precision(name: str) -> torch.dtype:
    """The type that a precision's name means.

    Raises:
        ValueError: there is no such precision.
    """
    if name not in PRECISIONS:
        raise ValueError(f"there is no precision {name!r}; choose one of {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def in_precision(network: Network, norm: nn.Module, dtype: torch.dtype) -> Network:
    """The network, ready for activations of this type. Plain layers cannot mix types, so where `norm`, one of them, is
    plain and of another type a copy with its weights in this type is made; layers that cast their weights at use stay.
    """
    if type(norm) is not nn.LayerNorm or norm.weight.dtype == dtype:
        return network
    stays = {
        id(tensor): tensor
        for part in network.modules()
        if isinstance(part, BatchNorm)  # float32 in any case
        for tensor in (*part.parameters(), *part.buffers())
    }
    converted = {
        id(weight): nn.Parameter(weight.detach().to(dtype), requires_grad=False) for weight in network.parameters()
    }
    return copy.deepcopy(network, converted | stays)


def most_change(some: Tensor, exact: Tensor) -> float:
    """The most by which a cosine of these rows with anything at all can differ from that of the exact ones: the largest
    distance between two rows. [n, E] each, of length 1
    """
    return float((some - exact).norm(dim=-1).max())


def slow_half(device: torch.device | str, dtype: torch.dtype) -> str | None:
    """Why activations of this type are no quicker than float32 on this device, in a sentence; None where they are."""
    device = torch.device(device)
    name = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype)
    if name is None:
        return None
    if device.type == "cpu":
        return f"{name} on the CPU is mostly slower than fp32, and less exact: choose fp32 there"
    if device.type == "cuda" and torch.cuda.is_available() and torch.version.cuda is not None:
        major, minor = torch.cuda.get_device_capability(device)
        if dtype == torch.bfloat16 and major < 8:
            return f"bf16 is emulated on this card (compute capability {major}.{minor}): choose fp16 or fp32"
        if major < 7:
            return f"this card has no tensor cores (compute capability {major}.{minor}): fp32 is as quick or quicker"
    if device.type == "privateuseone" and dtype == torch.bfloat16:
        return "bf16 is not known to DirectML: choose fp16 or fp32"
    return None
