"""Texts as points of the space that they share with pictures, without ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from ....clip_core.features.texts import TextFeatures
from ....clip_core.features.texts import text_features as features_of
from ....clip_core.judging.ranking import Logits
from ....clip_core.networks.precision import EXACT
from ..shared.clip_vision import ClipVision
from ..shared.text_side import logits_of
from .clip import StandaloneClip, StandaloneClipModel
from .vision import computing_in

Looking = StandaloneClipModel | ClipVision


def text_features(
    model: Looking,
    clip: StandaloneClip | None,
    texts: Sequence[str],
    on_step: Callable[[int, int], None] | None,
    precision: str = EXACT,
) -> TextFeatures:
    return features_of(computing_in(model, precision), _whole(model).tokenizer, texts, on_step=on_step)


def text_owner(model: Looking, clip: StandaloneClip | None) -> Hashable | None:
    return _whole(model).identity


def logits(model: Looking) -> Logits | None:
    return logits_of(_whole(model).network)


def _whole(model: Looking) -> StandaloneClipModel:
    """Both encoders: without ComfyUI there is no CLIP_VISION but ours, which is the image half of a whole CLIP."""
    return model.clip_model if isinstance(model, ClipVision) else model
