"""A task is pictures of which some have a label; what every method of learning takes, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from .neighbours import Graph

UNLABELLED = -1
SAME = 1 - 1e-6  # the cosine from which two pictures are one


@dataclass(frozen=True)
class Task:
    """N pictures, C classes, and the label of some pictures."""

    features: Tensor  # float32 [N, E], rows of length 1
    labels: Tensor  # int64 [N], UNLABELLED or 0..C-1
    classes: tuple[str, ...]
    graph: Graph = field(repr=False)  # of all pictures
    words: Tensor | None = None  # float32 [C, E], the classes as texts, rows of length 1
    scale: float = 100.0  # the model's factor on cosines
    held_out: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # numbers of pictures that
    # report how good the result is: their labels are not among `labels`, and no head has them as keys

    @cached_property
    def known(self) -> Tensor:
        """The numbers of the labelled pictures. -> [L]"""
        return (self.labels != UNLABELLED).nonzero()[:, 0]

    @cached_property
    def targets(self) -> Tensor:
        """The labels of the labelled pictures as rows with a single 1. -> float64 [L, C]"""
        return F.one_hot(self.labels[self.known], len(self.classes)).double()

    @cached_property
    def counts(self) -> list[int]:
        """The number of labelled pictures of each class."""
        return torch.bincount(self.labels[self.known], minlength=len(self.classes)).tolist()

    def without(self, places: Tensor) -> Task:
        """The same task with these labels taken away."""
        labels = self.labels.clone()
        labels[places] = UNLABELLED
        return replace(self, labels=labels)

    def means(self) -> Tensor:
        """The mean of each class's labelled pictures, of length 1; zeros for a class without any. -> float32 [C, E]"""
        sums = self.targets.T @ self.features[self.known].double()
        return F.normalize(sums, dim=-1).float()


def check_task(features: Tensor, labels: Tensor, classes: Sequence[str], names: Sequence[str]) -> None:
    """Check that something can be learned from these pictures and labels; `names` are for the sentences.

    Raises:
        ValueError: fewer than two classes, a class without a labelled picture, fewer pictures than classes, features
            with NaN, or the same picture with two labels.
    """
    if len(classes) < 2:
        raise ValueError(
            f"at least two classes were expected, but there is {len(classes)}: label pictures of another class, "
            "or those that show none of it, too"
        )
    if len(features) < len(classes):
        raise ValueError(
            f"{len(classes)} classes were given with {len(features)} pictures: at least one picture of each class was "
            "expected; index more pictures, or give fewer classes"
        )
    bad = (~features.isfinite().all(1)).nonzero()[:, 0].tolist()
    if bad:
        raise ValueError(
            f"the features of {len(bad)} pictures have NaN (not a number), {names[bad[0]]} for one: index the folder "
            "again with a model loaded in fp32"
        )
    known = (labels != UNLABELLED).nonzero()[:, 0]
    counts = torch.bincount(labels[known], minlength=len(classes)).tolist()
    if without := [name for name, count in zip(classes, counts) if not count]:
        raise ValueError(
            f"no labelled picture was found of {', '.join(without[:5])}: at least one of each class was expected; "
            "label one, or leave the class out"
        )
    _check_same(F.normalize(features[known], dim=-1), labels[known], classes, [names[n] for n in known.tolist()])


def _check_same(rows: Tensor, labels: Tensor, classes: Sequence[str], names: Sequence[str]) -> None:
    """Raise ValueError where one picture has two labels. [L, E], [L]"""
    found: list[tuple[int, int]] = []
    for start in range(0, len(rows), 4096):
        part = slice(start, start + 4096)
        pairs = (rows[part] @ rows.T >= SAME) & (labels[part, None] != labels)
        found += [(start + one, other) for one, other in pairs.nonzero().tolist() if start + one < other]
    if found:
        one, other = found[0]
        raise ValueError(
            f"the labels contradict each other: {names[one]} is {classes[int(labels[one])]} and {names[other]} is "
            f"{classes[int(labels[other])]}, but they are the same picture ({len(found)} such pairs); give it one label"
        )
