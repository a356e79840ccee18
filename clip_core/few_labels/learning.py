"""Learning from few labels, from the choice of a method to the report: `learn` is the way in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import OnStep
from .choosing import Trial, best_of, best_trial, trials
from .heads import LearnedLabels
from .measuring import Measured, agreement, measure
from .methods import METHODS, Candidate, candidates
from .neighbours import graph_of
from .splitting import groups_of, held_out_places
from .task import UNLABELLED, Task, check_task

AUTO = "auto"


@dataclass(frozen=True)
class Wish:
    """How to learn; checked where it is made.

    Raises:
        ValueError: no such method, or a share or threshold out of range.
    """

    method: str = AUTO  # or one of METHODS
    held_out: float = 0.2  # the share of each class's labels that only report
    threshold: float = 0.8  # the probability from which an answer counts as sure
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in (AUTO, *METHODS):
            raise ValueError(
                f"there is no method {self.method!r} of learning: choose one of {', '.join((AUTO, *METHODS))}"
            )
        if not (0 <= self.held_out < 1 and 0 <= self.threshold <= 1):
            raise ValueError(
                f"a held-out share of 0 or more and less than 1, and a threshold of 0..1 were expected, but "
                f"{self.held_out:g} and {self.threshold:g} came"
            )


@dataclass(frozen=True)
class Learned:
    """What was learned from N pictures, and how good it is."""

    labels: LearnedLabels  # for any picture
    probabilities: Tensor  # float32 [N, C], of the pictures themselves
    candidate: Candidate
    trials: tuple[Trial, ...]  # the best of each method, as cross-validated
    task: Task  # whose labels are those that were learned from
    held_out: Measured | None  # of `probabilities`, on labels that chose nothing
    held_out_new: Measured | None  # the same of the head, which has not seen these pictures
    words: Measured | None  # the same of zero-shot
    agreement: float | None  # with zero-shot, on pictures without a label

    @property
    def is_chosen(self) -> bool:
        """Whether cross-validation chose."""
        return bool(self.trials)

    @property
    def unlabelled(self) -> list[int]:
        """The numbers of the pictures that nobody has labelled."""
        free = self.task.labels == UNLABELLED
        free[self.task.held_out] = False
        return free.nonzero()[:, 0].tolist()


def learn(
    features: Tensor,
    labels: Sequence[int] | Tensor,
    classes: Sequence[str],
    names: Sequence[str],
    *,
    words: Tensor | None = None,
    scale: float = 100.0,
    wish: Wish | None = None,
    on_step: OnStep = lambda done, total: None,
) -> Learned:
    """Learn classes from labelled pictures, and from those without a label.

    A part of the labels is held out; the method and its settings are chosen by cross-validation on the others, which
    are learned; the held-out ones report, and decide nothing. It runs on the features' device.

    Args:
        features: of all pictures, [N, E].
        labels: of all pictures, a class's number, or UNLABELLED.
        classes: their names.
        names: of the pictures, for sentences.
        words: features of the classes as texts, [C, E], if there are any.
        scale: the model's factor on cosines.
        wish: how to learn.
        on_step: called with (steps done, steps in all).

    Raises:
        ValueError: nothing can be learned from these; see `check_task`.

    >>> circle, star = torch.tensor([1.0, 0.1, 0.0]), torch.tensor([0.0, 0.1, 1.0])
    >>> pictures = torch.stack([circle + 0.01 * n for n in range(5)] + [star + 0.02 * n for n in range(5)])
    >>> labels = torch.tensor([0, -1, -1, -1, -1, 1, -1, -1, -1, -1])
    >>> found = learn(pictures, labels, ["circle", "star"], [str(n) for n in range(10)])
    >>> found.probabilities.argmax(1).tolist(), found.candidate.method
    ([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], 'propagation')
    """
    wish = wish or Wish()
    labels = torch.as_tensor(labels, dtype=torch.int64, device=features.device)
    check_task(features, labels, classes, names)
    features = F.normalize(features.float(), dim=-1)
    known = (labels != UNLABELLED).nonzero()[:, 0]
    groups = groups_of(features[known])
    truth = labels[known].tolist()
    out = held_out_places(truth, groups.tolist(), wish.held_out, wish.seed)
    kept = sorted(set(range(len(known))) - set(out))
    held_out = known[out]
    words = None if words is None else F.normalize(words.float(), dim=-1)
    task = Task(features, labels, tuple(classes), graph_of(features, on_step=on_step), words, scale, held_out)
    task = task.without(held_out)
    choices = candidates(task, tuple(METHODS) if wish.method == AUTO else (wish.method,))
    if not choices:
        raise ValueError("zero-shot needs a text for each class, but there is none; give a template, or other methods")
    found = trials(task, choices, groups[kept].tolist(), wish.seed, on_step)
    best = best_trial(found, len(classes)) if found else None
    candidate = choices[0] if best is None else best.candidate
    return _learned(task, candidate, 1.0 if best is None else best.temperature, found, labels, wish.threshold)


def _learned(
    task: Task, candidate: Candidate, temperature: float, found: Sequence[Trial], labels: Tensor, threshold: float
) -> Learned:
    """Learn with the candidate, and report on the held-out labels."""
    logits, head = candidate.fit(task)
    probabilities = (logits / temperature).softmax(-1).float()
    made = LearnedLabels(task.classes, head, temperature, task.means(), candidate.method)
    truth, out = labels[task.held_out], task.held_out
    plain = None if task.words is None else (task.scale * task.features @ task.words.T).softmax(-1)
    free = (labels == UNLABELLED).nonzero()[:, 0]
    return Learned(
        made,
        probabilities,
        candidate,
        tuple(best_of(name, found) for name in _methods_of(found)),
        task,
        measure(probabilities[out], truth, threshold),
        measure(made.probabilities(task.features[out]), truth, threshold),
        None if plain is None else measure(plain[out], truth, threshold),
        None if plain is None else agreement(plain[free], probabilities[free]),
    )


def _methods_of(found: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(trial.candidate.method for trial in found))
