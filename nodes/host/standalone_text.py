"""Texts as points of the space that they share with pictures, without ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from ...clip_core.text_features import TextFeatures
from ...clip_core.text_features import text_features as features_of
from ...clip_core.tokenizer import Tokenizer
from .text_side import NO_TEXTS, fitting_encoder

if TYPE_CHECKING:
    from .standalone import StandaloneClip, StandaloneClipModel


def text_features(
    model: StandaloneClipModel,
    clip: StandaloneClip | None,
    texts: Sequence[str],
    on_step: Callable[[int, int], None] | None,
) -> TextFeatures:
    if _is_whole(model):
        return features_of(model.network, Tokenizer(), texts, on_step=on_step)
    if clip is None:
        raise ValueError(NO_TEXTS)
    encoders = {tower.use.encoder: tower.transformer for tower in clip.towers.towers()}
    network = fitting_encoder(encoders, model.model.visual_projection.weight.shape[0])
    return features_of(network, Tokenizer(), texts, on_step=on_step)


def text_owner(model: StandaloneClipModel, clip: StandaloneClip | None) -> Hashable | None:
    if _is_whole(model):
        return model.identity
    return None if clip is None else (clip.identity, model.model.visual_projection.weight.shape[0])


def logit_scale(model: StandaloneClipModel) -> float | None:
    return float(model.network.logit_scale.float().exp()) if _is_whole(model) else None


def _is_whole(model: object) -> bool:
    """Whether both encoders are in there; a CLIP_VISION has the one for pictures, as `model`."""
    return hasattr(model, "network")
