"""The noise levels of a sampling, as ComfyUI's schedulers choose them for a flow model of the same shift.

Written from the behaviour of ComfyUI 0.3.64 (comfy/samplers.py, comfy/model_sampling.py).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .config import DiffusionError
from .flow import shifted

_LEVELS = 1000  # of the table that the host draws from


def simple(steps: int, shift: float) -> Tensor:
    """Every (1000 / steps)th level of the table, from 1 down. -> [steps + 1] float32, the last 0"""
    table = _table(shift)
    places = [_LEVELS - 1 - int(number * (_LEVELS / steps)) for number in range(steps)]
    return torch.cat([table[places], torch.zeros(1)])


def normal(steps: int, shift: float) -> Tensor:
    """Even steps from the table's last level to its first, shifted once more. -> [steps + 1] float32, the last 0"""
    table = _table(shift)
    return torch.cat([shifted(torch.linspace(float(table[-1]), float(table[0]), steps), shift), torch.zeros(1)])


def sgm_uniform(steps: int, shift: float) -> Tensor:
    """As `normal`, in steps that would reach the table's first level after one more. -> [steps + 1] float32"""
    table = _table(shift)
    even = torch.linspace(float(table[-1]), float(table[0]), steps + 1)[:-1]
    return torch.cat([shifted(even, shift), torch.zeros(1)])


SCHEDULES: dict[str, Callable[[int, float], Tensor]] = {
    "simple": simple,
    "normal": normal,
    "sgm_uniform": sgm_uniform,
}


def levels_of(schedule: str, steps: int, shift: float, denoise: float = 1.0) -> Tensor:
    """The levels to sample through; with denoise < 1 the last `steps` of as many more. -> [steps + 1] float32

    Raises:
        DiffusionError: an unknown schedule, no step, or a denoise outside 0..1.
    """
    if schedule not in SCHEDULES or steps < 1 or not 0 < denoise <= 1:
        raise DiffusionError(
            f"expected one of {', '.join(SCHEDULES)}, at least one step and 0 < denoise <= 1, but got {schedule!r}, "
            f"{steps} and {denoise:g}: choose others, or sample in ComfyUI"
        )
    whole = steps if denoise > 0.9999 else int(steps / denoise)
    return SCHEDULES[schedule](whole, shift)[-(steps + 1) :]


def _table(shift: float) -> Tensor:
    return shifted(torch.arange(1, _LEVELS + 1, dtype=torch.float32) / _LEVELS, shift)
