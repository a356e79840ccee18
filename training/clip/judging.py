"""How good a CLIP is on pictures that it did not learn from: its loss, zero-shot choice, and retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ...clip_core.few_labels.measuring import wilson
from .data.examples import Example
from .objective import CLASSES, Factors, Truth, share_of_loss
from .plan import ClipPlan


class Judged(Protocol):
    """What a validation asks of a course."""

    plan: ClipPlan

    @property
    def factors(self) -> Factors: ...


@dataclass(frozen=True)
class Measured:
    """The validation after a step. loss: of all its pictures as one batch. right: of `labelled` pictures those whose
    class is chosen among all classes. found: the share of pictures that find a text of their own among all texts, and
    of texts that find a picture; None where every picture has a class.
    """

    step: int
    loss: float
    count: int
    right: int = 0
    labelled: int = 0
    found: tuple[float, float] | None = None

    @property
    def accuracy(self) -> float | None:
        """The share of right choices, 0..1."""
        return self.right / self.labelled if self.labelled else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The accuracy's 95 % interval."""
        return wilson(self.right, self.labelled) if self.labelled else None

    def told(self) -> dict[str, object]:
        """The same for a report and a log."""
        told: dict[str, object] = {"step": self.step, "loss": self.loss, "pictures": self.count}
        if self.labelled:
            told |= {"accuracy": self.accuracy, "interval": self.interval}
        if self.found:
            told |= {"picture_to_text": self.found[0], "text_to_picture": self.found[1]}
        return told


def measured(
    step: int, examples: Sequence[Example], images: Tensor, texts: Tensor, classes: Tensor | None, course: Judged
) -> Measured:
    """Judge by features, rows of length 1. `texts` are the examples' own, `classes` those of all classes.

    [n, E], [n, E], [C, E]
    """
    device = images.device
    labels = torch.tensor([one.label for one in examples], device=device)
    truth = Truth(
        torch.tensor([one.number for one in examples], device=device),
        torch.tensor([one.text for one in examples], device=device),
    )
    loss = course.plan.loss
    if loss == CLASSES and classes is not None:
        said, truth_of_loss = classes, Truth(truth.pictures, labels)
    else:
        said, truth_of_loss = texts, truth
    rows = torch.arange(len(images), device=device)
    total = sum(
        float(share_of_loss(loss, images, said, course.factors, truth_of_loss, some)) for some in rows.split(1024)
    )
    known = labels >= 0
    right = 0
    if classes is not None:
        right = int(((images @ classes.T).argmax(1) == labels)[known].sum())
    is_retrieval = any(one.label < 0 for one in examples)
    return Measured(
        step,
        total,
        len(examples),
        right,
        int(known.sum()) if classes is not None else 0,
        recall(images, texts, truth) if is_retrieval else None,
    )


def recall(images: Tensor, texts: Tensor, truth: Truth) -> tuple[float, float]:
    """Recall at 1: the share of pictures whose nearest text is true of them, and of texts whose nearest picture is one
    that they are true of. [n, E], [n, E]
    """
    cosines = images @ texts.T
    own = torch.arange(len(images), device=images.device)
    true = truth.others(own)
    true[own, own] = True
    to_text = true[own, cosines.argmax(1)].double().mean()
    to_picture = true[cosines.argmax(0), own].double().mean()
    return float(to_text), float(to_picture)
