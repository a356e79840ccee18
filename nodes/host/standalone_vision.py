"""Pictures through a CLIP without ComfyUI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ...clip_core import image_features as core
from ...clip_core.image_features import ImageEncoder
from ...clip_core.model import CLIP
from .image_encoding import ClipVision, Seen, Tower, clip_key, look
from .standalone_clip import StandaloneClipModel


def image_encoder(model: StandaloneClipModel | ClipVision) -> ImageEncoder:
    return core.image_encoder(_network(model))


def image_features(
    model: StandaloneClipModel | ClipVision, image: Tensor, on_step: Callable[[int, int], None]
) -> Tensor:
    return core.image_features(image_encoder(model), image, on_step=on_step)


def vision_output(
    model: StandaloneClipModel | ClipVision, image: Tensor, resize: str, on_step: Callable[[int, int], None]
) -> Seen:
    encoder = image_encoder(model)
    encoder = encoder if resize == "auto" else replace(encoder, resize=resize)
    return look(Tower(_network(model)), encoder, image, Seen(), on_step)


def clip_vision(model: StandaloneClipModel) -> ClipVision:
    network = model.network
    return ClipVision(model, model.config, lambda: network, None, next(network.parameters()).device)


def model_key(model: StandaloneClipModel | ClipVision) -> str:
    network = _network(model)
    return clip_key(network, network.config)


def _network(model: StandaloneClipModel | ClipVision) -> CLIP:
    model = model.clip_model if isinstance(model, ClipVision) else model
    network = getattr(model, "network", None)
    if not isinstance(network, CLIP):
        raise ValueError(
            f"a CLIP from Load CLIP Model (CVL) was expected, but a {type(model).__name__} came; connect that"
        )
    return network
