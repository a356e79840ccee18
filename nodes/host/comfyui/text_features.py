"""Texts as points of the space that they share with pictures, with ComfyUI's objects."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import comfy.sd
from torch import nn

from ....clip_core.features.texts import TextFeatures
from ....clip_core.features.texts import text_features as features_of
from ....clip_core.judging.ranking import Logits
from ....clip_core.networks.precision import EXACT, as_precision
from ....clip_core.tokenizer import Tokenizer
from ..shared.text_side import NO_TEXTS, fitting_encoder, logits_of
from .clip import ComfyClipModel, ready_network
from .prompts import owner_of, text_encoders
from .vaes.layers import streams
from .vision import Looking, checked


def text_features(
    model: Looking,
    clip: comfy.sd.CLIP | None,
    texts: Sequence[str],
    on_step: Callable[[int, int], None] | None,
    precision: str = EXACT,
) -> TextFeatures:
    model, how = checked(model), {"dtype": as_precision(precision), "on_step": on_step}
    if isinstance(model, ComfyClipModel):
        network = ready_network(model)
        return features_of(network, model.tokenizer, texts, device=model.patcher.load_device, **how)
    if clip is None:
        raise ValueError(NO_TEXTS)
    network = fitting_encoder(_encoders(clip), model.model.visual_projection.weight.shape[0])
    clip.load_model()
    device = clip.patcher.load_device
    # weights that are streamed (Dynamic VRAM) lie on the CPU and are whole, with their patches, on the card only
    table_device = device if streams(clip.patcher) else None
    return features_of(network, Tokenizer(), texts, device=device, table_device=table_device, **how)


def _encoders(clip: comfy.sd.CLIP) -> dict[str, nn.Module]:
    """The CLIP encoders of a CLIP object by name: stock ones and ours have the same parts under the same names."""
    family = clip.cond_stage_model
    return {port.name: getattr(family, port.name).transformer for port in text_encoders(clip).ports}


def text_owner(model: Looking, clip: comfy.sd.CLIP | None) -> Hashable | None:
    model = checked(model)
    if isinstance(model, ComfyClipModel):
        return owner_of(model.patcher)
    owner = None if clip is None else owner_of(clip.patcher)
    return None if owner is None else (owner, model.model.visual_projection.weight.shape[0])  # which encoder it is


def logits(model: Looking) -> Logits | None:
    model = checked(model)
    return logits_of(model.patcher.model) if isinstance(model, ComfyClipModel) else None
