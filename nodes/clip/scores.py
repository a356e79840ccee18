"""What the nodes that judge pictures share: the inputs they have in common, and how each batch is looked at."""

from __future__ import annotations

from ...clip_core.judging import ranking, word_list
from ...clip_core.networks.precision import EXACT
from ..checks import check_image
from ..host import host
from . import features
from . import precision as precisions

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


def seen(clip_model, image, precision: str = EXACT):
    """The features of every picture of a batch, [B, E]; NaN for one that has no numbers in it.

    Raises:
        ValueError: it is no batch of pictures, or none of them has numbers.
    """
    check_image(image)
    sound = ranking.sound_pictures(image)
    if not sound:
        raise ValueError(
            "no picture of this batch has numbers in all its pixels: NaN (not a number) or infinite values all over; "
            "what made them overflowed, run that in higher precision"
        )
    looked_at = image if len(sound) == len(image) else image[sound]
    found = features.pictures(clip_model, looked_at, host.progress(len(sound)), precision)
    found = ranking.with_gaps(found, sound, len(image))
    if found.isnan().all():
        how = "load it with dtype fp32" if precision == EXACT else f"choose precision {EXACT}"
        raise ValueError(f"the model made NaN (not a number) features of sound pictures: it overflowed; {how}")
    return found


def told(clip_model, clip, texts, precision: str = EXACT):
    """The features of texts, and what was lost, with the bar moving."""
    return features.texts(clip_model, clip, texts, host.progress(len(texts)), precision)


def gaps(found) -> list[str]:
    """A note on the pictures that have no features."""
    places = [str(place) for place, row in enumerate(found.isnan().any(1).tolist()) if row]
    which = f"the picture at {places[0]}" if len(places) == 1 else f"the pictures at {', '.join(places)}"
    return [f"{which} could not be judged: NaN (not a number) values in the pixels or features"] if places else []


def scores(
    clip_model, clip, image, prompt: str, negative: str, kind: str, precision: str = EXACT
) -> tuple[list[float], dict, list[str]]:
    """A score for each picture (NaN for one without numbers, of which not all are), what it was made of, and notes.

    Raises:
        ValueError: there is no prompt, no picture has a score, or a probability is wanted of one prompt alone.
    """
    if not prompt.strip():
        raise ValueError("there is no prompt; write what the pictures should show")
    wanted = " ".join(prompt.split())
    unwanted, notes = word_list.lines(negative)
    texts = told(clip_model, clip, [wanted, *unwanted], precision)
    found = seen(clip_model, image, precision)
    scale = features.scale(clip_model)
    values = ranking.prompt_scores(found, texts.features[:1], texts.features[1:], scale=scale, kind=kind).tolist()
    if not any(value == value for value in values):
        raise ValueError(
            "no picture of this batch has a score: all came out as NaN (not a number), so the model "
            "overflowed; load it with dtype fp32, or choose precision fp32"
        )
    moved, said = precisions.effect(
        precision, clip_model, clip, image=image, seen=found, text=wanted, told=texts.features[:1]
    )
    data = {"prompt": wanted, "negative": unwanted, "score": kind, "scale": round(scale, 4), **moved}
    return values, data, [*notes, *texts.notes, *gaps(found), *said]


def number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return round(value, 6) if value == value else None


def numbers(matrix) -> list[list[float | None]]:
    """[N, M] for JSON."""
    return [[number(value) for value in row] for row in matrix.tolist()]
