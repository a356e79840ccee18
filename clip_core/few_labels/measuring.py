"""How good answers are: accuracy with an interval, calibration, coverage, agreement."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

CONFIDENCE_Z = 1.959963984540054  # of 95 %: that share of a normal distribution lies within so many deviations
BINS = 10  # of the calibration error


@dataclass(frozen=True)
class Measured:
    """What probabilities of classes were worth, on pictures whose class is known."""

    count: int
    right: int
    low: float  # of the 95 % interval of the accuracy
    high: float
    calibration_error: float  # 0 where answers given with p % are right in p % of cases
    covered: int  # answers at least as sure as the threshold
    covered_right: int

    @property
    def accuracy(self) -> float:
        """The share of right answers, 0..1."""
        return self.right / self.count


def measure(probabilities: Tensor, truth: Tensor, threshold: float) -> Measured | None:
    """Compare probabilities with the truth; None where there is no picture. [n, C], [n]"""
    count = len(truth)
    if not count:
        return None
    sure, answers = probabilities.max(1)
    correct = answers == truth
    right, covered = int(correct.sum()), sure >= threshold
    error = calibration_error(sure, correct)
    return Measured(count, right, *wilson(right, count), error, int(covered.sum()), int((correct & covered).sum()))


def wilson(right: int, count: int) -> tuple[float, float]:
    """The interval that holds the true share with 95 % confidence, from `right` of `count`; both ends in 0..1.

    Source: Wilson 1927 (Probable Inference, the Law of Succession, and Statistical Inference).
    """
    z, share = CONFIDENCE_Z, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def calibration_error(sure: Tensor, correct: Tensor) -> float:
    """The expected calibration error: in BINS equal ranges of the probability, the distance of its mean from the share
    of right answers, weighted by their number. Source: Guo et al. 2017 (arXiv 1706.04599), equation 3. [n], bool [n]
    """
    which = (sure * BINS).ceil().clamp(1, BINS)  # a range holds its upper end
    total = 0.0
    for number in range(1, BINS + 1):
        inside = which == number
        if inside.any():
            total += abs(float(sure[inside].double().sum()) - int(correct[inside].sum()))
    return total / len(sure)


def agreement(one: Tensor, other: Tensor) -> float | None:
    """The share of pictures to which two methods give the same class; None without pictures. [n, C], [n, C]"""
    return float((one.argmax(1) == other.argmax(1)).double().mean()) if len(one) else None
