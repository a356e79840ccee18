"""The device that numerical tests run on, and how near numbers come to one another there.

CVL_TEST_DEVICE: cpu (the default), cuda, cuda:1, xpu or mps; or pretended, the card of `card`, which needs none and
shows whether everything is put where it belongs.

On another device than the CPU, what a numerical test makes (tensors by torch's factories, networks when they get their
weights or are set to evaluation) is made on the CPU by seeded generators, so that every device sees the same, and then
moved. The code under test is left alone: it has to place what it makes itself. On the CPU nothing of this is there.
"""

import os
import sys
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from clip_vae_lora.training.device import NoSuchDevice, named_device

from .card import card

NAME = os.environ.get("CVL_TEST_DEVICE", "cpu")
PRETENDED = "pretended"
_LOOSER = {  # than on the CPU, where a tolerance is of the order of summation in float32
    "cpu": 1.0,
    "cuda": 8.0,  # cuDNN and cuBLAS choose kernels by size (Winograd, split sums), each with an order of its own
    "xpu": 8.0,  # as CUDA's: oneDNN chooses by size
    "mps": 40.0,  # besides, exp, rsqrt and division of Metal's fast mathematics are good to 2 to 4 units, not to half
}
_NUMERICAL = ("vae_core", "clip_core", "lora")  # folders of tests
_FACTORIES = (
    torch.tensor,
    torch.zeros,
    torch.ones,
    torch.full,
    torch.empty,
    torch.eye,
    torch.arange,
    torch.linspace,
    torch.rand,
    torch.randn,
    torch.randint,
    torch.randperm,
    torch.from_numpy,
)
_TESTS = Path(__file__).resolve().parents[1]
_open = ExitStack()


def chosen() -> torch.device:
    """The device asked for; opened for the whole session where it is pretended, and without TF32 where it is CUDA's,
    since that rounds every factor to 11 bits (`test_rounding` of the device tests has it by itself).

    Raises:
        NoSuchDevice: one sentence, where this machine has none.
    """
    if NAME == PRETENDED:
        _open.enter_context(card())
        return torch.device("cuda", 0)
    try:
        device = named_device(NAME)
    except NoSuchDevice as error:
        raise NoSuchDevice(f"CVL_TEST_DEVICE: {error}, {PRETENDED}") from None
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return device


def near(on_cpu: float) -> float:
    """The tolerance on this device for what has this one on the CPU; 0, bit for bit, stays 0."""
    return on_cpu * _LOOSER["cpu" if NAME == PRETENDED else DEVICE.type]


class _Placed(TorchFunctionMode):
    """What a numerical test makes without naming a device is moved to this one."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if func in _FACTORIES and "device" not in (kwargs or {}) and _is_numerical(sys._getframe(1).f_code.co_filename):
            return made.to(DEVICE).requires_grad_(made.requires_grad)
        return made


@cache
def _is_numerical(filename: str) -> bool:
    path = Path(filename)
    return path.is_relative_to(_TESTS) and path.relative_to(_TESTS).parts[0] in _NUMERICAL


def _moved_after(method):
    """A method of modules after which those of a numerical test are on the device."""

    def run(self, *args, **kwargs):
        result = method(self, *args, **kwargs)
        if _is_numerical(sys._getframe(1).f_code.co_filename):
            self.to(DEVICE)
        return result

    return run


DEVICE = chosen()
if DEVICE.type != "cpu":
    _open.enter_context(_Placed())
    for _name in ("eval", "load_state_dict"):
        setattr(nn.Module, _name, _moved_after(getattr(nn.Module, _name)))
