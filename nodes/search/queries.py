"""What an index is searched for: texts, pictures, or both, as points of the space that they share."""

from __future__ import annotations

from ...clip_core.features.search import mixed
from ..checks import check_batches, check_image
from ..clip import features
from ..clip.precision import measure_precision


def made(clip_model, clip, text, image, weights, precision):
    """[Q, E], a title for each, notes, and what the precision changed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines and image is None:
        raise ValueError("there is nothing to search for: write a text, or connect a picture")
    parts, notes, sample = [], [], {}
    if lines:
        words = features.encode_texts(clip_model, clip, lines, precision=precision)
        parts.append((words.features, weights[0]))
        notes += words.notes
        sample |= {"text": lines[0], "text_features": words.features[:1]}
    if image is not None:
        check_image(image)
        parts.append((features.encode_pictures(clip_model, image, precision=precision), weights[1]))
        sample |= {"image": image, "picture_features": parts[-1][0]}
    moved, said = measure_precision(precision, clip_model, clip, **sample)
    notes += said
    if len(parts) == 2:
        count = check_batches(texts=len(lines), pictures=len(image))
        titles = [f"{lines[n % len(lines)]} + picture {n % len(image) + 1}" for n in range(count)]
        return mixed(parts), titles, notes, moved
    return mixed([(parts[0][0], 1.0)]), lines or [f"picture {n + 1}" for n in range(len(image))], notes, moved
