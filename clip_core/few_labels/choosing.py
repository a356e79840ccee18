"""Which method learns a task best, said by cross-validation on the labels that it may learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import OnStep
from .methods import METHODS, Candidate
from .splitting import folds
from .task import Task

FOLDS = 5
_TEMPERATURES = torch.logspace(-2, 2, 201, dtype=torch.float64, device="cpu")


@dataclass(frozen=True)
class Trial:
    """A candidate's cross-validation: whether each picture, judged by what was learned without it, was right, the mean
    negative log-likelihood, and the temperature at which that is least.
    """

    candidate: Candidate
    correct: tuple[bool, ...]
    loss: float
    temperature: float

    @property
    def count(self) -> int:
        """The number of pictures that were judged."""
        return len(self.correct)

    @property
    def right(self) -> int:
        """How many of them were right."""
        return sum(self.correct)

    @property
    def accuracy(self) -> float:
        """The share of right answers, 0..1."""
        return self.right / self.count


def trials(task: Task, choices: Sequence[Candidate], groups: Sequence[int], seed: int, on_step: OnStep) -> list[Trial]:
    """Cross-validate each candidate on the labelled pictures; none where no class has two of them to be parted.

    `groups` are those of near-duplicates, see `splitting`, of the labelled pictures in their order.
    """
    known = task.known.cpu()
    labels = task.labels.cpu()[known]
    parts = folds(labels.tolist(), groups, FOLDS, seed, also_alone=task.words is not None)
    if not parts:
        return []
    places = [known[part].to(task.labels.device) for part in parts]
    truth = task.labels[torch.cat(places)]
    found = []
    for number, candidate in enumerate(choices):
        logits = []
        for part, place in enumerate(places):
            logits.append(candidate.judge(task.without(place), place))
            on_step(number * len(places) + part + 1, len(choices) * len(places))
        judged = torch.cat(logits)
        temperature, loss = fitted_temperature(judged, truth)
        correct = tuple((judged.argmax(1) == truth).tolist())
        found.append(Trial(candidate, correct, loss, temperature))
    return found


def best_trial(found: Sequence[Trial], classes: int) -> Trial:
    """The trial to trust: that of the preferred method (they are in that order), unless another one is better by more
    than chance, and then that one, and so on. Of one method it is the one with the most right answers, then with the
    least loss.

    Better by more than chance: of the pictures that only one of both has right, it has more by over the standard
    deviation of that difference, which is the root of their number. Source: McNemar 1947 (the test for paired answers).
    A lead of one picture among few would otherwise choose what is worse by far.

    Where no trial is better than a guess among the classes, the texts mislead, and a class whose only label is left out
    cannot be told without them: then what never looks at texts is taken.
    """
    order = list(dict.fromkeys(trial.candidate.method for trial in found))
    if max(trial.accuracy for trial in found) <= 1 / classes:
        found = [trial for trial in found if trial.candidate.is_wordless] or found
        order = [name for name in METHODS if name in {trial.candidate.method for trial in found}]
    best, *others = (best_of(method, found) for method in order)
    for other in others:
        if is_better(other, best):
            best = other
    return best


def best_of(method: str, found: Sequence[Trial]) -> Trial:
    """The best trial of one method: with the most right answers, then with the least loss."""
    return min((one for one in found if one.candidate.method == method), key=lambda one: (-one.right, one.loss))


def is_better(one: Trial, other: Trial) -> bool:
    """Whether a trial is better than another one by more than chance; see `best_trial`."""
    gained = sum(mine and not theirs for mine, theirs in zip(one.correct, other.correct))
    lost = sum(theirs and not mine for mine, theirs in zip(one.correct, other.correct))
    return gained - lost > math.sqrt(gained + lost)


def fitted_temperature(logits: Tensor, truth: Tensor) -> tuple[float, float]:
    """The temperature at which the mean negative log-likelihood is least, of 201 from 0.01 to 100, and that loss.

    Sources: Guo et al. 2017 (arXiv 1706.04599), section 4.2; the targets are smoothed by 1 / (n + 2), as by Platt 1999,
    so that few answers, all right, do not make a certainty. [n, C], [n]
    """
    logits, truth = logits.double().cpu(), truth.cpu()
    count, classes = logits.shape
    loose = 1 / (count + 2)
    targets = torch.full((count, classes), loose / max(1, classes - 1), dtype=torch.float64, device="cpu")
    targets[torch.arange(count, device="cpu"), truth] = 1 - loose
    losses = torch.stack([-(targets * (logits / t).log_softmax(-1)).sum(1).mean() for t in _TEMPERATURES])
    best = int(losses.argmin())
    return float(_TEMPERATURES[best]), float(losses[best])
