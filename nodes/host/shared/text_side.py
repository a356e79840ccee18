"""Which text encoder of a CLIP object belongs to an image encoder: the one with a projection into the same width."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ....clip_core.features.whole_texts import WholeTexts
from ....clip_core.judging.ranking import Logits
from ....clip_core.networks.clip import CLIP as ClipNetwork
from ....clip_core.networks.siglip import SigLIP
from ....clip_core.tokenizer import Tokenizer

TextTokenizer = Tokenizer | WholeTexts  # of a CLIP, and of a SigLIP

NO_TEXTS = (
    "this CLIP_VISION encodes pictures only, and texts are needed too; connect the CLIP of the same model to the input "
    "clip, or use a model from Load CLIP Model (CVL)"
)


def logits_of(network: ClipNetwork) -> Logits:
    """What one of our networks does with cosines; it waits for a card once."""
    bias = float(network.logit_bias.detach().float()) if isinstance(network, SigLIP) else None
    return Logits(float(network.logit_scale.detach().float().exp()), bias)


def fitting_encoder(encoders: Mapping[str, nn.Module], width: int) -> nn.Module:
    """The encoder (with `text_model` and `text_projection`) whose texts have features of `width` dimensions.

    Raises:
        ValueError: no encoder has a projection, or none into that width.
    """
    projected = {name: network for name, network in encoders.items() if has_projection(network)}
    widths = {name: network.text_projection.weight.shape[0] for name, network in projected.items()}
    for name, network in projected.items():
        if widths[name] == width:
            return network
    if not projected:
        raise ValueError(
            "a CLIP with a text projection was expected, but no encoder of this one has one (the CLIP-L in SD1, SDXL "
            "and Flux files came without); load the text half of the same model as the CLIP_VISION"
        )
    came = ", ".join(f"{name} of {size}" for name, size in widths.items())
    raise ValueError(
        f"the pictures of this CLIP_VISION have {width} dimensions, but the texts of this CLIP have others ({came}); "
        "connect the CLIP of the same model"
    )


def has_projection(network: nn.Module) -> bool:
    """Whether a trained projection is there. ComfyUI leaves one that the file did not have as the memory was, mostly
    zeros (comfy/ops.py turns off `reset_parameters`); some files hold the identity in its place.
    """
    projection = getattr(network, "text_projection", None)
    if projection is None or not getattr(network, "has_projection", True):
        return False
    weight = projection.weight.detach().float()
    filled = bool(weight.isfinite().all()) and float((weight != 0).float().mean()) > 0.5
    square = weight.shape[0] == weight.shape[1]
    return filled and not (square and torch.equal(weight, torch.eye(len(weight), device=weight.device)))
