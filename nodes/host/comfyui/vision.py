"""Pictures through a CLIP inside ComfyUI: ours, and the stock CLIP_VISION, which gets its pictures preprocessed by us
and runs under the host's memory management.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import comfy.clip_model
import comfy.clip_vision
import comfy.model_management as management
import comfy.model_patcher
from torch import Tensor

from ....clip_core.features import pictures as core
from ....clip_core.features.pictures import ImageEncoder
from ....clip_core.networks.precision import EXACT, as_precision
from ....index.model import fingerprint
from ..shared.clip_vision import ClipVision, Marks, Tower, clip_fingerprint, clip_key, content_key, look
from .clip import ComfyClipModel, clip_network, ready_network

Stock = comfy.clip_vision.ClipVisionModel
Looking = ComfyClipModel | ClipVision | Stock


def image_encoder(model: Looking, precision: str = EXACT) -> ImageEncoder:
    model, dtype = checked(model), as_precision(precision)
    if isinstance(model, ComfyClipModel):
        network = ready_network(model)  # first: what is free is asked for when the weights are there
        free_bytes = management.get_free_memory(model.patcher.load_device)
        return core.image_encoder(network, model.patcher.load_device, dtype=dtype, free_bytes=free_bytes)
    management.load_models_gpu([model.patcher])
    device, network = model.load_device, model.model  # weights are cast to the type of the pixels

    def encode(pixels: Tensor) -> Tensor:
        return network(pixel_values=pixels, intermediate_output=-2)[2]

    colours, embed = (tuple(model.image_mean), tuple(model.image_std)), network.visual_projection.weight.shape[0]
    tokens, width = network.vision_model.embeddings.position_embedding.weight.shape
    each = core.transformer_bytes(model.image_size, tokens, width, dtype)
    at_once = core.pictures_at_once(device, tokens, each, management.get_free_memory(device))
    return ImageEncoder(model.image_size, *colours, "crop", device, dtype, embed, at_once, encode)


def image_features(
    model: Looking, image: Tensor, on_step: Callable[[int, int], None], precision: str = EXACT
) -> Tensor:
    return core.image_features(image_encoder(model, precision), image, on_step=on_step)


def vision_output(
    model: Looking, image: Tensor, resize: str, on_step: Callable[[int, int], None], ground: float = 1.0
) -> comfy.clip_vision.Output:
    model, encoder = checked(model), image_encoder(model)
    encoder = encoder if resize == "auto" else replace(encoder, resize=resize, ground=ground)
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


def model_fingerprint(model: Looking) -> str:
    model = checked(model)
    patcher = model.patcher
    originals = {key: kept.weight for key, kept in patcher.backup.items()}  # of weights that are patched at this moment
    state = {**patcher.model_state_dict(), **originals}
    if isinstance(model, ComfyClipModel):
        return clip_fingerprint(state, model.config, _marks(model))
    facts = [f"CLIP_VISION {model.image_size} {list(model.image_mean)} {list(model.image_std)}", *_strengths(patcher)]
    return fingerprint(state, "\n".join(facts))


def _marks(model: ComfyClipModel) -> Marks:
    """What Load LoRA has put on it; and of patches that others have put on it their strengths."""
    return model.marks if model.marks or not model.patcher.patches else {"": tuple(_strengths(model.patcher))}


def _strengths(patcher: comfy.model_patcher.ModelPatcher) -> list[str]:
    return [f"{key} {[patch[0] for patch in several]}" for key, several in sorted(patcher.patches.items())]


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
    if (
        not isinstance(network, comfy.clip_model.CLIPVisionModelProjection)
        or getattr(network.vision_model.embeddings, "class_embedding", None) is None
    ):
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
