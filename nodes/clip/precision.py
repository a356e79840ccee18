"""The precision of encoding pictures and texts: the widget of every node that encodes, and the measured loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...clip_core.networks.precision import EXACT, PRECISIONS, as_precision, most_change, slow_half
from ...files.decoding.ground import WHITE
from ...files.pictures import read_square
from ..host import host
from ..host.interface import CLIP, Looking
from . import features

if TYPE_CHECKING:
    from ...clip_core.features.pictures import ImageEncoder
    from ..host.interface import Tensor

WIDGET = (
    list(PRECISIONS),
    {
        "default": EXACT,
        "advanced": True,
        "tooltip": "What activations are computed in. fp32: exact. fp16, bf16: several times as fast on a card with "
        "tensor cores, less exact; the report says how far cosines move. On a CPU fp32 is the fastest.",
    },
)


def measure_precision(
    precision: str,
    clip_model: Looking,
    clip: CLIP | None = None,
    *,
    image: Tensor | None = None,
    picture_features: Tensor | None = None,
    text: str = "",
    text_features: Tensor | None = None,
) -> tuple[dict, list[str]]:
    """Measure how far a precision moves features, by encoding one picture and one text in fp32 too: the first picture
    of `image` without NaN in its `picture_features` [B, E], and `text`, which has the `text_features` [1, E]. Returns
    the report's data and notes, both empty for fp32.
    """
    if precision == EXACT:
        return {}, []
    changes = {}
    if image is not None and picture_features is not None:
        sound = [number for number, bad in enumerate(picture_features.isnan().any(1).tolist()) if not bad][:1]
        if sound:
            exact = host.image_features(clip_model, image[sound], _silent)
            changes["picture"] = most_change(picture_features[sound], exact)
    if text_features is not None:
        exact = features.encode_texts(clip_model, clip, [text], _silent).features
        changes["text"] = most_change(text_features, exact)
    return report_precision(precision, host.image_encoder(clip_model, precision), changes)


def measure_with_label(
    precision: str, clip_model: Looking, clip: CLIP | None, image: Tensor, picture_features: Tensor, sentence: str
) -> tuple[dict, list[str]]:
    """Measure what the precision changes, on the first picture and the first label in its first template."""
    if precision == EXACT:
        return {}, []
    words = features.encode_texts(clip_model, clip, [sentence], precision=precision).features
    sample = {"image": image, "picture_features": picture_features}
    return measure_precision(precision, clip_model, clip, **sample, text=sentence, text_features=words)


def file_change(clip_model: Looking, path: Path, row: Tensor, ground: str = WHITE) -> float:
    """The distance between a picture file's features [E] and those of fp32."""
    encoder = host.image_encoder(clip_model)
    square = read_square(path, encoder.size_px, encoder.resize, ground=ground)
    return most_change(row[None], encoder.features(encoder.normalise(square[None])))


def report_precision(precision: str, encoder: ImageEncoder, changes: dict[str, float]) -> tuple[dict, list[str]]:
    """Report distances from fp32's features, as data and notes: no cosine can change by more than their sum."""
    slow = slow_half(encoder.device, as_precision(precision))
    if precision == EXACT:
        return {}, []
    data = {
        "activations": precision,
        **{f"{name}_moved": round(change, 7) for name, change in changes.items()},
        "max_cosine_change": round(sum(changes.values()), 7) if changes else None,
    }
    notes = [slow] if slow else []
    if changes:
        what = " and ".join(f"the first {name}" for name in changes)
        notes.insert(
            0,
            f"{precision} in place of fp32: no cosine of {what}, encoded in both, changes by more than "
            f"{sum(changes.values()):.2g}",
        )
    return {"precision": data}, notes


def _silent(done: int, total: int) -> None:
    """Leave the progress bar alone, while the measurement encodes."""
