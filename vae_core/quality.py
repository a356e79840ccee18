"""How near one picture is to another."""

import math

from torch import Tensor


def psnr_db(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio of values in 0..1, in dB: 10 log10(1 / mean squared difference); inf for equal ones.

    Two tensors of one shape; computed in float64.
    """
    error = (first.double() - second.double()).square().mean().item()
    return math.inf if error == 0 else -10 * math.log10(error)


def amplified_difference(first: Tensor, second: Tensor, gain: float) -> Tensor:
    """|first - second| * gain, cut to 0..1, so that small errors can be seen. Any one shape -> the same."""
    return ((first - second).abs() * gain).clamp(0, 1)
