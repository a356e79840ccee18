"""Labels are learned from an index; the node and `headless/learn.py` share these functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...clip_core.features.search import alive_rows
from ...clip_core.few_labels.asking import to_label_next
from ...clip_core.few_labels.learning import Learned, Wish, learn
from ...clip_core.judging import zero_shot
from ...clip_core.networks.precision import EXACT
from ...index.reading import PictureIndex
from ..clip import features
from ..clip.learned import ModelLabels
from ..host import OnStep, host
from ..host.interface import CLIP, Features, Looking
from .labelled import Labelling, label_pictures, parse_picks

TEMPLATE = "a photo of a {label}"


@dataclass(frozen=True)
class Settings:
    """What the user wrote; see the inputs of the node."""

    classes: str = ""
    labelled: str = ""
    picks: str = ""
    template: str = TEMPLATE
    wish: Wish = Wish()
    ask: int = 12
    ask_by: str = "margin"
    precision: str = EXACT


@dataclass(frozen=True)
class Lesson:
    """What was learned from an index, with its pictures."""

    learned: Learned
    labels: ModelLabels
    labelling: Labelling
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    ask: tuple[int, ...]  # the numbers of the pictures to label next
    threshold: float
    notes: tuple[str, ...]

    def answer(self, number: int) -> tuple[str, float]:
        """The class of a picture and its probability: 1 where it was given."""
        given = self.labelling.labels[number]
        if given >= 0:
            return self.learned.labels.classes[given], 1.0
        share, place = self.learned.probabilities[number].max(0)
        return self.learned.labels.classes[int(place)], float(share)

    def sure(self) -> list[tuple[int, str, float]]:
        """Number, class and probability of each picture that has a label, or whose class is sure enough."""
        found = [(number, *self.answer(number)) for number in range(len(self.names))]
        return [one for one in found if one[2] >= self.threshold]


def learn_index(
    index: PictureIndex,
    name_of: Callable[[Path], str],
    clip_model: Looking,
    clip: CLIP | None,
    settings: Settings,
    on_step: OnStep,
) -> Lesson:
    """Learn the classes of an index from its labelled pictures. `name_of` names a picture for the user.

    Raises:
        ValueError: nothing can be learned from these labels.
    """
    rows, numbers = alive_rows(index.blocks, index.dead)
    pictures = index.pictures(numbers)
    there = [number for number, picture in enumerate(pictures) if picture is not None]
    below = [picture.path for picture in pictures if picture is not None]
    paths = tuple(index.pictures_folder / path for path in below)
    names = tuple(map(name_of, paths))
    found = label_pictures(below, names, settings.classes, settings.labelled, parse_picks(settings.picks))
    words, notes = _words(clip_model, clip, found.classes, settings)
    logits, said = features.logits_and_note(clip_model)
    learned = learn(
        rows[there],
        found.labels,
        [label.name for label in found.classes],
        names,
        words=words,
        scale=logits.scale,
        wish=settings.wish,
        on_step=on_step,
    )
    made = replace(
        index.facts, model_key=host.model_key(clip_model), fingerprint=host.model_fingerprint(clip_model), remaining=0
    )
    asked = to_label_next(
        learned.task.features, learned.probabilities, learned.unlabelled, settings.ask, settings.ask_by
    )
    return Lesson(
        learned,
        ModelLabels(learned.labels, replace(made, folder="")),
        found,
        paths,
        names,
        tuple(asked),
        settings.wish.threshold,
        (*found.notes, *notes, *(said if words is not None else ())),
    )


def _words(
    clip_model: Looking, clip: CLIP | None, classes: Sequence[zero_shot.Label], settings: Settings
) -> tuple[Features | None, list[str]]:
    """The features of the classes as texts, and notes; None where there is no template at all."""
    if not settings.template.strip() and not any(label.templates for label in classes):
        return None, []
    templates = zero_shot.templates_for(classes, settings.template, "none", "")
    return features.encode_labels(clip_model, clip, classes, templates, settings.precision)
