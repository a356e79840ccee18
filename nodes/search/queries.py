"""Queries of an index are texts, pictures or both, encoded into the space that texts and pictures share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from ...clip_core.features.search import mixed
from ..checks import check_batches
from ..clip import features
from ..clip.ground import on_ground
from ..clip.precision import measure_precision
from ..host.interface import CLIP, Features, Image, Looking


@dataclass(frozen=True)
class Queries:
    """Encoded queries with a title each, notes on them, and the effect of the precision as data for the report."""

    features: Features  # [Q, E]
    titles: Sequence[str]
    headings: Sequence[str]  # the titles for a drawn picture, in the user's words and numbers alone
    notes: Sequence[str]
    effect: dict


def encode(
    clip_model: Looking,
    clip: CLIP | None,
    text: str,
    image: Image | None,
    *,
    weights: tuple[float, float],
    precision: str,
    ground: str,
) -> Queries:
    """Encode each line of the text and each picture, transparent ones on the ground of the index; where both are given,
    mix them by the weights (text, picture).

    Raises:
        ValueError: neither text nor picture was given, or their numbers do not go together.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines and image is None:
        raise ValueError("there is nothing to search for: write a text, or connect a picture")
    parts: list[tuple[Features, float]] = []
    notes: list[str] = []
    sample: dict[str, Any] = {}  # what `effect` encodes once more in fp32
    if lines:
        words = features.encode_texts(clip_model, clip, lines, precision=precision)
        points = cast(Features, words.features)
        parts.append((points, weights[0]))
        notes += words.notes
        sample |= {"text": lines[0], "text_features": points[:1]}
    if image is not None:
        laid = on_ground(image, ground)
        notes += laid.notes
        image = laid.image
        parts.append((features.encode_pictures(clip_model, image, precision=precision), weights[1]))
        sample |= {"image": image, "picture_features": parts[-1][0]}
    changed, more = measure_precision(precision, clip_model, clip, **sample)
    notes += more
    places = range(1, 1 if image is None else len(image) + 1)
    pictures, numbers = [f"picture {place}" for place in places], [f"#{place}" for place in places]
    if len(parts) == 1:
        return Queries(mixed([(parts[0][0], 1.0)]), lines or pictures, lines or numbers, notes, changed)
    count = check_batches(texts=len(lines), pictures=len(pictures))
    titles, headings = (
        [f"{lines[n % len(lines)]} + {names[n % len(names)]}" for n in range(count)] for names in (pictures, numbers)
    )
    return Queries(mixed(parts), titles, headings, notes, changed)
