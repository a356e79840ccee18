"""Features of pictures and texts in one space, for every node that compares them, with a cache of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...clip_core.features.texts import TextCache
from ...clip_core.judging import ranking, zero_shot
from ...clip_core.networks.precision import EXACT
from ..checks import check_image, check_numbers
from ..host import OnStep, host
from ..host.interface import CLIP, Looking
from .ground import on_ground

if TYPE_CHECKING:
    from ..host.interface import Tensor

MODEL_TYPES = "CVL_CLIP_MODEL,CLIP_VISION"  # of an input `clip_model`; a CLIP_VISION wants an input `clip` beside it
PUBLISHED_SCALE = 100.0  # the logit scale of every published CLIP, within a percent
CACHE_BYTES = 64 << 20  # of text features: 2 KB a text for ViT-B/32
TEXTS = TextCache(CACHE_BYTES)


@dataclass(frozen=True)
class Texts:
    """The features of N texts."""

    features: Tensor  # [N, E] float32 on the CPU, rows of length 1
    notes: tuple[str, ...]  # on texts that were cut
    cut: tuple[int, ...]  # N, the number of tokens cut from each


def encode_pictures(
    clip_model: Looking, image: Tensor, on_step: OnStep | None = None, precision: str = EXACT
) -> Tensor:
    """Encode a batch of pictures. A node lays transparent ones on its ground and says so; here they come on white.

    [B, H, W, 3 or 4] in 0..1 -> [B, E] float32 on the CPU, rows of length 1

    Raises:
        ValueError: it is no batch of pictures, or has NaN or infinite values.
    """
    check_image(image)
    check_numbers(image, "this IMAGE")
    return host.image_features(clip_model, on_ground(image).image, on_step or host.progress(len(image)), precision)


def encode_texts(
    clip_model: Looking,
    clip: CLIP | None,
    texts: Sequence[str],
    on_step: OnStep | None = None,
    precision: str = EXACT,
) -> Texts:
    """Encode texts with the model's own text encoder, or for a CLIP_VISION with that of `clip` (None: not connected).

    Raises:
        ValueError: there are no texts, or no text encoder whose features are in the space of the pictures.
    """
    owner = host.text_owner(clip_model, clip)
    owner = None if owner is None else (owner, precision)
    found = TEXTS.features(
        owner, texts, lambda missing: host.text_features(clip_model, clip, missing, on_step, precision)
    )
    _check_sound(found.features, texts, precision)
    notes = tuple(f"{_short(text)!r}: {n} tokens too long, the end was cut" for text, n in zip(texts, found.cut) if n)
    return Texts(found.features, notes, found.cut)


def encode_labels(
    clip_model: Looking,
    clip: CLIP | None,
    labels: Sequence[zero_shot.Label],
    templates: Sequence[str],
    precision: str = EXACT,
) -> tuple[Tensor, list[str]]:
    """Encode labels in templates: features [N, E], rows of length 1, and notes on sentences that were cut."""
    notes: list[str] = []

    def encode(sentences: Sequence[str], on_step: OnStep) -> Tensor:
        found = encode_texts(clip_model, clip, sentences, on_step, precision)
        notes.extend(found.notes)
        return found.features

    on_step = host.progress(1)
    return zero_shot.class_features(labels, templates, encode, on_step), zero_shot.some_of(notes)


def logits_and_note(clip_model: Looking, wanted: float = 0.0) -> tuple[ranking.Logits, list[str]]:
    """What the model does with cosines, with the factor `wanted` in place of its own (0: its own); and a note on a
    model without one.
    """
    learned = host.logits(clip_model)
    found = learned or ranking.Logits(PUBLISHED_SCALE)
    if wanted:
        return replace(found, scale=wanted), []
    note = f"a CLIP_VISION has no logit scale of its own: {PUBLISHED_SCALE:g} was taken, where published CLIPs stand"
    return found, [note] if learned is None else []


def scale_of(clip_model: Looking) -> float:
    """The factor on cosines before a softmax: the model's own, or 100 for a CLIP_VISION, which has none."""
    return logits_and_note(clip_model)[0].scale


def _check_sound(found: Tensor, texts: Sequence[str], precision: str) -> None:
    """Raise ValueError for a text with NaN features, which would make every score with it NaN."""
    bad = [text for text, row in zip(texts, found.isfinite().all(1).tolist()) if not row]
    if bad:
        more = f" and {len(bad) - 1} more texts" if len(bad) > 1 else ""
        how = "load the model with dtype fp32" if precision == EXACT else f"choose precision {EXACT}"
        raise ValueError(
            f"the model made NaN (not a number) features of {_short(bad[0])!r}{more}: it overflowed; {how}"
        )


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
