"""Scores of pictures for a prompt, and the inputs and features that all nodes which judge pictures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...clip_core.judging import ranking, word_list
from ...clip_core.networks.precision import EXACT
from ..checks import check_image
from ..host import host
from ..host.interface import CLIP as Clip
from ..host.interface import Looking
from . import features
from .features import Texts
from .ground import WHITE, on_ground
from .learned import NOT_USED, class_scores, labels_for, learned_facts
from .precision import measure_precision

if TYPE_CHECKING:
    from ..host.interface import Tensor

MODEL = (
    features.MODEL_TYPES,
    {"tooltip": "Both encoders, from Load CLIP Model; or a CLIP_VISION, with the CLIP of the same model at clip."},
)
BATCH = ("IMAGE", {"tooltip": "The batch. Every picture of it is looked at."})
CLIP = (
    "CLIP",
    {"tooltip": "Only beside a CLIP_VISION: the text encoder of the same model, with its projection."},
)
SCORE = (
    list(ranking.KINDS),
    {
        "tooltip": "cosine: the prompt's cosine, less that of the nearest negative. probability: the prompt's share in "
        "a softmax over prompt and negatives, 0 to 1; it needs negatives."
    },
)
NEGATIVES = (
    "STRING",
    {
        "multiline": True,
        "default": "",
        "tooltip": "What the pictures should not show: one a line, or empty. It counts against a picture.",
    },
)
NO_THRESHOLD = -2.0  # the least a score can be: every picture passes


def picture_features_of(clip_model: Looking, image: Tensor, precision: str = EXACT) -> Tensor:
    """Encode every picture of a batch, [B, E]; a picture with NaN or infinite values gets NaN features.

    Raises:
        ValueError: it is no batch of pictures, or all of them have NaN or infinite values.
    """
    check_image(image)
    sound = ranking.sound_pictures(image)
    if not sound:
        raise ValueError(
            "no picture of this batch has numbers in all its pixels: NaN (not a number) or infinite values all over; "
            "what made them overflowed, run that in higher precision"
        )
    some = image if len(sound) == len(image) else image[sound]
    found = features.encode_pictures(clip_model, some, host.progress(len(sound)), precision)
    found = ranking.with_gaps(found, sound, len(image))
    if found.isnan().all():
        how = "load it with dtype fp32" if precision == EXACT else f"choose precision {EXACT}"
        raise ValueError(f"the model made NaN (not a number) features of sound pictures: it overflowed; {how}")
    return found


def text_features_of(clip_model: Looking, clip: Clip | None, texts: Sequence[str], precision: str = EXACT) -> Texts:
    """Encode texts, with the node's progress bar."""
    return features.encode_texts(clip_model, clip, texts, host.progress(len(texts)), precision)


def notes_on_gaps(found: Tensor) -> list[str]:
    """A note on the pictures with NaN features. [B, E]"""
    places = [str(place) for place, row in enumerate(found.isnan().any(1).tolist()) if row]
    which = f"the picture at {places[0]}" if len(places) == 1 else f"the pictures at {', '.join(places)}"
    return [f"{which} could not be judged: NaN (not a number) values in the pixels or features"] if places else []


def score_pictures(
    clip_model: Looking,
    clip: Clip | None,
    image: Tensor,
    prompt: str,
    negative: str,
    kind: str,
    precision: str = EXACT,
    ground: str = WHITE,
    head: object = None,
) -> tuple[list[float], dict, list[str]]:
    """Score each picture for a prompt, transparent ones on `ground`; NaN for one with NaN features. Also returned: the
    report's data, and notes. With learned labels at `head` the prompt is the name of a class.

    Raises:
        ValueError: there is no prompt, no picture has a score, or a probability is wanted without negatives.
    """
    if not prompt.strip():
        raise ValueError("there is no prompt; write what the pictures should show")
    wanted = " ".join(prompt.split())
    unwanted, notes = word_list.lines(negative)
    if head is not None:
        return _score_by_learned(head, clip_model, image, wanted, unwanted, notes, precision, ground)
    texts = text_features_of(clip_model, clip, [wanted, *unwanted], precision)
    laid = on_ground(image, ground)
    found = picture_features_of(clip_model, laid.image, precision)
    scale = features.scale_of(clip_model)
    values = ranking.prompt_scores(found, texts.features[:1], texts.features[1:], scale=scale, kind=kind).tolist()
    if not any(value == value for value in values):
        raise ValueError(
            "no picture of this batch has a score: all came out as NaN (not a number), so the model "
            "overflowed; load it with dtype fp32, or choose precision fp32"
        )
    moved, said = measure_precision(
        precision,
        clip_model,
        clip,
        image=laid.image,
        picture_features=found,
        text=wanted,
        text_features=texts.features[:1],
    )
    data = {"prompt": wanted, "negative": unwanted, "score": kind, "scale": round(scale, 4), **laid.data, **moved}
    return values, data, [*laid.notes, *notes, *texts.notes, *notes_on_gaps(found), *said]


def _score_by_learned(
    head: object,
    clip_model: Looking,
    image: Tensor,
    wanted: str,
    unwanted: Sequence[str],
    notes: Sequence[str],
    precision: str,
    ground: str,
) -> tuple[list[float], dict, list[str]]:
    """As `score_pictures`, by the probability of a learned class."""
    learned = labels_for(head, clip_model)
    laid = on_ground(image, ground)
    found = picture_features_of(clip_model, laid.image, precision)
    values = class_scores(learned, found, wanted, unwanted).tolist()
    moved, said = measure_precision(precision, clip_model, image=laid.image, picture_features=found)
    data = {"prompt": wanted, "negative": list(unwanted), "score": ranking.PROBABILITY, **learned_facts(learned)}
    return values, {**data, **laid.data, **moved}, [*laid.notes, *notes, NOT_USED, *notes_on_gaps(found), *said]


def number(value: float) -> float | None:
    """A score for JSON, which has no NaN."""
    return round(value, 6) if value == value else None


def numbers(matrix: Tensor) -> list[list[float | None]]:
    """Scores for JSON. [N, M]"""
    return [[number(value) for value in row] for row in matrix.tolist()]
