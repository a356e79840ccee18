"""Pictures through a CLIP inside ComfyUI: ours, and the stock CLIP_VISION, which gets its pictures preprocessed by us
and runs under the host's memory management.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import comfy.clip_model
import comfy.clip_vision
import comfy.model_management as management
import torch
from torch import Tensor

from ...clip_core import image_features as core
from ...clip_core.image_features import ImageEncoder
from .comfyui_clip import ComfyClipModel, clip_network, ready_network
from .image_encoding import ClipVision, Tower, clip_key, content_key, look

Stock = comfy.clip_vision.ClipVisionModel
Looking = ComfyClipModel | ClipVision | Stock


def image_encoder(model: Looking) -> ImageEncoder:
    model = checked(model)
    if isinstance(model, ComfyClipModel):
        return core.image_encoder(ready_network(model), model.patcher.load_device)
    management.load_models_gpu([model.patcher])
    device, network = model.load_device, model.model  # weights are cast to the type of the pixels

    def encode(pixels: Tensor) -> Tensor:
        return network(pixel_values=pixels, intermediate_output=-2)[2]

    colours, embed = (tuple(model.image_mean), tuple(model.image_std)), network.visual_projection.weight.shape[0]
    at_once = core.pictures_at_once(device, network.vision_model.embeddings.position_embedding.weight.shape[0])
    return ImageEncoder(model.image_size, *colours, "crop", device, torch.float32, embed, at_once, encode)


def image_features(model: Looking, image: Tensor, on_step: Callable[[int, int], None]) -> Tensor:
    return core.image_features(image_encoder(model), image, on_step=on_step)


def vision_output(
    model: Looking, image: Tensor, resize: str, on_step: Callable[[int, int], None]
) -> comfy.clip_vision.Output:
    model, encoder = checked(model), image_encoder(model)
    encoder = encoder if resize == "auto" else replace(encoder, resize=resize)
    tower = Tower(ready_network(model)) if isinstance(model, ComfyClipModel) else model.model
    return look(tower, encoder, image, comfy.clip_vision.Output(), on_step)


def clip_vision(model: ComfyClipModel) -> ClipVision:
    patcher = model.patcher
    return ClipVision(
        model,
        model.config,
        lambda: ready_network(model),
        patcher,
        patcher.load_device,
        comfy.clip_vision.Output,
        lambda: clip_network(model),
    )


def model_key(model: Looking) -> str:
    model = checked(model)
    if isinstance(model, ComfyClipModel):
        return clip_key(clip_network(model), model.config)
    facts = f"CLIP_VISION {model.image_size} {list(model.image_mean)} {list(model.image_std)}"
    return content_key(model.model.state_dict(), facts)


def checked(model: Looking) -> ComfyClipModel | Stock:
    """Ours without its CLIP_VISION wrapping, or a stock CLIP with a projection."""
    model = model.clip_model if isinstance(model, ClipVision) else model
    if isinstance(model, ComfyClipModel):
        return model
    if not isinstance(model, Stock):
        raise ValueError(
            f"a CLIP from Load CLIP Model (CVL) or a CLIP_VISION was expected, but a {type(model).__name__} came; "
            "connect one of these"
        )
    network = model.model
    if not isinstance(network, comfy.clip_model.CLIPVisionModelProjection) \
            or getattr(network.vision_model.embeddings, "class_embedding", None) is None:
        raise ValueError(
            "a CLIP was expected, but this CLIP_VISION is of another kind (SigLIP, DINOv2 or the like), whose pictures "
            "share no space with CLIP's texts; load a CLIP, or use the stock CLIP Vision Encode for this one"
        )
    if getattr(network.visual_projection, "weight", None) is None:
        raise ValueError(
            "a CLIP with a projection into the space shared with texts was expected, but this CLIP_VISION came without "
            "one (visual_projection); load the file that has it, or use the stock CLIP Vision Encode for this one"
        )
    return model
