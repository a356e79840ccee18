"""Pictures through a CLIP without ComfyUI."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ....clip_core.features import pictures as core
from ....clip_core.features.pictures import ImageEncoder
from ....clip_core.networks.clip import CLIP
from ....clip_core.networks.precision import EXACT, as_precision, in_precision
from ..shared.clip_vision import ClipVision, Seen, Tower, clip_fingerprint, clip_key, look
from .clip import StandaloneClipModel

_copies: weakref.WeakKeyDictionary[CLIP, dict[torch.dtype, CLIP]] = weakref.WeakKeyDictionary()


def computing_in(model: StandaloneClipModel | ClipVision, precision: str) -> CLIP:
    """Return the network, or a copy in that type, which lives as long as the network."""
    network, dtype = _network(model), as_precision(precision)
    if network.activation_dtype == dtype:
        return network
    kept = _copies.setdefault(network, {})
    if dtype not in kept:
        kept[dtype] = in_precision(network, network.text_model.final_layer_norm, dtype)
    return kept[dtype]


def image_encoder(model: StandaloneClipModel | ClipVision, precision: str = EXACT) -> ImageEncoder:
    return core.image_encoder(computing_in(model, precision))


def image_features(
    model: StandaloneClipModel | ClipVision,
    image: Tensor,
    on_step: Callable[[int, int], None],
    precision: str = EXACT,
) -> Tensor:
    return core.image_features(image_encoder(model, precision), image, on_step=on_step)


def vision_output(
    model: StandaloneClipModel | ClipVision,
    image: Tensor,
    resize: str,
    on_step: Callable[[int, int], None],
    ground: float = 1.0,
) -> Seen:
    encoder = core.image_encoder(_network(model))
    encoder = encoder if resize == "auto" else replace(encoder, resize=resize, ground=ground)
    return look(Tower(_network(model)), encoder, image, Seen(), on_step)


def clip_vision(model: StandaloneClipModel) -> ClipVision:
    network = model.network
    return ClipVision(model, model.config, lambda: network, None, next(network.parameters()).device)


def model_key(model: StandaloneClipModel | ClipVision) -> str:
    network = _network(model)
    return clip_key(network, network.config)


def model_fingerprint(model: StandaloneClipModel | ClipVision) -> str:
    model = model.clip_model if isinstance(model, ClipVision) else model
    network = _network(model)
    return clip_fingerprint((model.unpatched or network).state_dict(), network.config, model.marks)


def _network(model: StandaloneClipModel | ClipVision) -> CLIP:
    model = model.clip_model if isinstance(model, ClipVision) else model
    network = getattr(model, "network", None)
    if not isinstance(network, CLIP):
        raise ValueError(
            f"a CLIP from Load CLIP Model (CVL) was expected, but a {type(model).__name__} came; connect that"
        )
    return network
