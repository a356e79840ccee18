"""Learned labels on a wire: what Learn Labels (CVL) gives, in place of labels that are words, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...clip_core.few_labels.heads import LearnedLabels
from ...index.table import Facts
from ...index.writing import is_made_by
from ..host import host
from ..host.interface import Features, Looking

HEAD = (
    "CVL_LABELS",
    {
        "tooltip": "Labels learned by Learn Labels (CVL) with this model. They are used in place of words: with them a "
        "prompt is the name of one of their classes."
    },
)


@dataclass(frozen=True)
class ModelLabels:
    """Learned labels, and the facts of the index, whose model alone has features that they can judge."""

    learned: LearnedLabels
    made: Facts


def labels_for(head: object, clip_model: Looking) -> LearnedLabels:
    """The labels on a wire, checked against the model that is to judge with them.

    Raises:
        ValueError: these are no learned labels, or another model's.
    """
    if not isinstance(head, ModelLabels):
        came = "nothing" if head is None else f"a value of type {type(head).__name__}"
        raise ValueError(f"learned labels were expected at head, but {came} came; connect Learn Labels (CVL)")
    key = host.model_key(clip_model)
    if not is_made_by(head.made, key, host.model_fingerprint(clip_model)):
        raise ValueError(
            f"these labels were learned with {head.made.model_name} ({head.made.model_key[:12]}), but the model here "
            f"is another one ({key[:12]}); connect that model, or learn them anew with this one"
        )
    return head.learned


def class_scores(learned: LearnedLabels, found: Features, prompt: str, negatives: Sequence[str]) -> Features:
    """The probability of the class that a prompt names, less that of the likeliest one among the negatives.

    [B, E] -> [B]

    Raises:
        ValueError: the prompt or a negative is no class.
    """
    shares = learned.probabilities(found)
    wanted = shares[:, place_of(learned, prompt)]
    if not negatives:
        return wanted
    return wanted - shares[:, [place_of(learned, one) for one in negatives]].amax(1)


def answers_of(learned: LearnedLabels, found: Features, names: Sequence[str]) -> tuple[Features, Features]:
    """The probabilities of the classes that are named, which share all of it, and their cosines with the pictures of
    each class that were labelled.

    [B, E] -> [B, N], [B, N]

    Raises:
        ValueError: a name is no class.
    """
    places = [place_of(learned, name) for name in names]
    shares = learned.probabilities(found)[:, places]
    return shares / shares.sum(1, keepdim=True), learned.cosines(found)[:, places]


def place_of(learned: LearnedLabels, name: str) -> int:
    """The number of a class. Raises ValueError for a name that is none."""
    if name not in learned.classes:
        there = ", ".join(learned.classes[:8]) + (", ..." if len(learned.classes) > 8 else "")
        raise ValueError(
            f"the learned labels have no class {name!r}, there are: {there}; write one of these, or disconnect head"
        )
    return learned.classes.index(name)


def learned_facts(learned: LearnedLabels) -> dict:
    """What a report says of them."""
    return {"learned": {"method": learned.method, "classes": list(learned.classes), "kind": learned.head.kind}}


NOT_USED = "the labels are those that were learned: words and templates are not used"
