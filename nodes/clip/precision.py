"""The precision that pictures and texts are encoded in: the widget of every node that encodes, and what it costs."""

from __future__ import annotations

from pathlib import Path

from ...clip_core.networks.precision import EXACT, PRECISIONS, as_precision, most_change, slow_half
from ...files.pictures import read_square
from ..host import host
from . import features

WIDGET = (
    list(PRECISIONS),
    {
        "default": EXACT,
        "advanced": True,
        "tooltip": "What activations are computed in. fp32: exact. fp16, bf16: several times as fast on a card with "
        "tensor cores, less exact; the report says how far cosines move. On a CPU fp32 is the fastest.",
    },
)


def effect(precision: str, clip_model, clip=None, *, image=None, seen=None, text: str = "", told=None):
    """What the precision changes, as data and as notes, measured by encoding a picture and a text in fp32 too: the
    first one of `image` that has numbers, whose features are in `seen`, and `text`, whose features are `told` [1, E].
    Nothing for fp32.
    """
    if precision == EXACT:
        return {}, []
    changes, exact = {}, {}
    sound = [] if seen is None else [place for place, bad in enumerate(seen.isnan().any(1).tolist()) if not bad]
    if sound:
        first = slice(sound[0], sound[0] + 1)
        exact["picture"] = seen[first], host.image_features(clip_model, image[first], _silent)
    if told is not None:
        exact["text"] = told, features.texts(clip_model, clip, [text], _silent).features
    changes = {name: most_change(some, fp32) for name, (some, fp32) in exact.items()}
    return told_effect(precision, host.image_encoder(clip_model, precision).device, changes)


def file_change(clip_model, path: Path, row) -> float:
    """The same for a picture file with these features [E]."""
    encoder = host.image_encoder(clip_model)
    square = read_square(path, encoder.size_px, encoder.resize)
    return most_change(row[None], encoder.features(encoder.normalised(square[None])))


def told_effect(precision: str, device, changes: dict[str, float]) -> tuple[dict, list[str]]:
    """Distances from the features of fp32 as data and as notes: no cosine can change by more than their sum."""
    slow = slow_half(device, as_precision(precision))
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
    """For what is encoded beside the work that the bar shows."""
