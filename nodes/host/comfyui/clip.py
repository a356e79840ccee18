"""ComfyUI's CLIP round our text encoders, and our dual CLIP under ComfyUI's memory management.

The CLIP is a real `comfy.sd.CLIP` with our networks and tokenizer in it, so that stock nodes can encode with it, patch
it, set its layer, hook and save it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import folder_paths
import torch
from comfy.patcher_extension import CallbacksMP
from torch import Tensor, nn

from ....clip_core.checkpoint.find import TextSource
from ....clip_core.config import CLIPConfig, ResNetConfig
from ....clip_core.families import Family
from ....clip_core.networks.siglip import network_of
from ....clip_core.tokenizer import Tokenizer
from ..shared.clip_vision import Marks
from ..shared.text_side import TextTokenizer
from ..shared.towers import FindEmbedding, PromptTokenizer, Towers, as_dtype, load_as

OPERATIONS = comfy.ops.manual_cast  # weights stay as they are and are cast to the input's type at use


def make_clip(
    family: Family,
    parts: Sequence[tuple[TextSource, Mapping[str, Tensor]]],
    dtype: str,
    find_embedding: FindEmbedding,
) -> comfy.sd.CLIP:
    sources = [source for source, _ in parts]

    def network(device, dtype, model_options) -> Towers:
        return Towers(family, sources, OPERATIONS, device, dtype, results_device=management.intermediate_device)

    def tokenizer(embedding_directory=None, tokenizer_data=None) -> PromptTokenizer:
        return PromptTokenizer(family, sources, find_embedding)

    chosen = as_dtype(dtype)
    clip = comfy.sd.CLIP(
        SimpleNamespace(params={}, clip=network, tokenizer=tokenizer),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        parameters=sum(tensor.numel() for _, state in parts for tensor in state.values()),
        model_options={} if chosen is None else {"dtype": chosen},
    )
    clip.cond_stage_model.load_parts([state for _, state in parts])
    clip.patcher.add_callback(CallbacksMP.ON_DETACH, _forget_marks)
    return clip


def _forget_marks(patcher: comfy.model_patcher.ModelPatcher, unpatch_all: bool) -> None:
    """Take back the mark "already loaded in part" from the layers of a network that was loaded whole.

    0.33.0 sets it on every layer of a text encoder that it loads whole, too, and never takes it back; when the network
    is then loaded in part, layers with the mark are passed over, and their LoRAs are lost (comfy/model_patcher.py
    `load`: "Already lowvramed").
    """
    if not patcher.model.model_lowvram:
        for layer in patcher.model.modules():
            vars(layer).pop("prev_comfy_cast_weights", None)


@dataclass(frozen=True)
class ComfyClipModel:
    """Both encoders behind a patcher: ComfyUI moves, offloads and patches them like any other model."""

    patcher: comfy.model_patcher.ModelPatcher
    config: CLIPConfig
    marks: Marks = field(default_factory=dict)  # of the LoRAs on it
    tokenizer: TextTokenizer = field(default_factory=Tokenizer)


def make_clip_model(
    config: CLIPConfig, state: Mapping[str, Tensor], dtype: str, tokenizer: TextTokenizer | None = None
) -> ComfyClipModel:
    load_device, offload_device = management.text_encoder_device(), management.text_encoder_offload_device()
    chosen = as_dtype(dtype) or torch.float32
    network = network_of(config, OPERATIONS, device=offload_device, dtype=chosen)
    load_as(network, state, chosen)
    network.requires_grad_(False).eval()
    patcher = comfy.model_patcher.ModelPatcher(network, load_device, offload_device)
    return ComfyClipModel(patcher, config, tokenizer=tokenizer or Tokenizer())


def clip_network(model: ComfyClipModel) -> nn.Module:
    management.load_models_gpu([model.patcher], force_full_load=True)
    return model.patcher.model


def text_tokenizer(model: ComfyClipModel) -> TextTokenizer:
    return model.tokenizer


def ready_network(model: ComfyClipModel) -> nn.Module:
    """The CLIP, ready to compute on `model.patcher.load_device`, of its weights as many there as the host finds room
    for; the others lie on the CPU without their patches and come, patched, when their layer runs. A ResNet is brought
    there whole: its norms and its pooling are no layers of the host's.
    """
    if isinstance(model.config.vision, ResNetConfig):
        return clip_network(model)
    management.load_models_gpu([model.patcher])
    return model.patcher.model


def training_device() -> torch.device:
    management.unload_all_models()
    management.soft_empty_cache()
    return management.get_torch_device()


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
