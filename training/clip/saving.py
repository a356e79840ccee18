"""A trained CLIP as files: both encoders or the text encoder alone in Hugging Face's names, or a LoRA in kohya's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace

import torch
from torch import Tensor

from ...clip_core.config import to_metadata
from ...clip_core.networks.clip import CLIP
from ...clip_core.networks.resnet import ResNet
from ...clip_core.networks.siglip import SigLIP
from ...lora.formats.read import write
from ...lora.kinds.adapters import Adapter, is_adapter
from ...lora.models.conversion import rename
from ..loop import TrainingError
from .plan import ClipPlan
from .targets import BIAS, SCALE

BOTH_ENCODERS, TEXT_ENCODER, LORA, AS_TRAINED = "both encoders", "text encoder", "LoRA", "as trained"
WRITES = (AS_TRAINED, BOTH_ENCODERS, TEXT_ENCODER, LORA)
_TEXT = ("text_model.", "text_projection.")
_THIRDS = ("q_proj", "k_proj", "v_proj")
_POOL = "vision_model.head.attention."


def what_to_write(asked: str, plan: ClipPlan, model: CLIP) -> str:
    """Which file is written; "as trained": a LoRA where one was trained, else both encoders.

    Raises:
        TrainingError: a LoRA that was not trained, or a file that has no names for this image encoder.
    """
    if asked not in WRITES:
        raise TrainingError(f"what is written is {asked!r}: expected one of {', '.join(WRITES)}")
    found = asked if asked != AS_TRAINED else LORA if plan.rank else BOTH_ENCODERS
    if found == LORA and not plan.rank:
        raise TrainingError(
            "a LoRA was to be written, and the rank is 0, so that the weights themselves are trained: choose a rank, "
            "or write both encoders"
        )
    if found == TEXT_ENCODER and isinstance(model, SigLIP):
        raise TrainingError(
            "the text encoder alone was to be written, and it is a SigLIP's, which no model that draws reads prompts "
            "by: write both encoders"
        )
    if found == BOTH_ENCODERS and isinstance(model.vision_model, ResNet):
        raise TrainingError(
            "the image encoder of this CLIP is a ResNet, for which Hugging Face's layout has no names: write the text "
            "encoder, or train a LoRA"
        )
    return found


def model_file(model: CLIP, what: str, plan: ClipPlan) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors in 16 bits and header of both encoders, or of the text encoder alone."""
    state = model.state_dict()
    if isinstance(model, SigLIP):
        state = _as_hugging_face(state)
    if what == TEXT_ENCODER:
        state = {name: tensor for name, tensor in state.items() if name.startswith(_TEXT)}
    header = {"format": "pt", "cvl.plan": json.dumps(plan.describe()), **to_metadata(model.config)}
    return halves(state), header


def halves(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as files hold them, in 16 bits on the CPU."""
    return {name: tensor.detach().to("cpu", torch.float16) for name, tensor in state.items()}


def as_written(adapter: Adapter) -> Adapter:
    """A LoRA's layer with its numbers rounded as in its file."""
    values = {field.name: getattr(adapter, field.name) for field in fields(adapter)}  # type: ignore[arg-type]
    rounded = {name: one.half().to(one.dtype) for name, one in values.items() if isinstance(one, Tensor)}
    inner = {name: as_written(one) for name, one in values.items() if is_adapter(one)}
    return replace(adapter, **rounded, **inner)  # type: ignore[type-var]


def _as_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A SigLIP's tensors in Hugging Face's names and shapes: the pooling's three projections are one tensor, and the
    two factors have one dimension.
    """
    found = {}
    for name, tensor in state.items():
        if not name.startswith(_POOL) or ".out_proj." in name:
            found[name] = tensor.reshape(1) if name in (SCALE, BIAS) else tensor
    for kind in ("weight", "bias"):
        found[f"{_POOL}in_proj_{kind}"] = torch.cat([state[f"{_POOL}{third}.{kind}"] for third in _THIRDS])
    return found


def lora_file(
    adapters: Mapping[str, Adapter], model: CLIP, plan: ClipPlan, title: str, steps: int
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """Tensors in 16 bits and header of a LoRA in kohya's names, and the layers that have none there -> why."""
    shapes = {name: tuple(one.shape) for name, one in model.named_parameters()}
    named = rename({f"{name}.weight": one for name, one in adapters.items()}, shapes, "kohya")
    header = {
        "ss_output_name": title,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(plan.rank),
        "ss_network_alpha": str(plan.alpha),
        "ss_learning_rate": str(plan.lr),
        "ss_steps": str(steps),
        "ss_seed": str(plan.seed),
        "ss_training_comment": "trained by comfyui-clip-vae-lora",
        "modelspec.title": title,
        "cvl.plan": json.dumps(plan.describe()),
    }
    tensors, header = write(dict(named.named), "kohya", header)
    small = {name: one if name.endswith(".alpha") else one.half() for name, one in tensors.items()}
    return small, header, {str(place): why for place, why in named.unnamed.items()}
