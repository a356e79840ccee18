"""CLIPs without ComfyUI: plain networks on the device that runs compute on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ....clip_core.checkpoint.find import TextSource
from ....clip_core.config import CLIPConfig
from ....clip_core.families import Family
from ....clip_core.networks.clip import CLIP
from ....clip_core.networks.siglip import network_of
from ....clip_core.tokenizer import Tokenizer
from ..shared.clip_vision import Marks
from ..shared.text_side import TextTokenizer
from ..shared.towers import FindEmbedding, PromptTokenizer, Towers, as_dtype
from .place import device


@dataclass(frozen=True)
class StandaloneClip:
    """A CLIP: networks and tokenizer. `identity` stands for the weights: another object for other weights."""

    towers: Towers
    tokenizer: PromptTokenizer
    identity: object = field(default_factory=object)


@dataclass(frozen=True)
class StandaloneClipModel:
    network: CLIP
    config: CLIPConfig
    identity: object = field(default_factory=object)  # as above
    unpatched: CLIP | None = None  # the network that LoRAs were put on, which shares its other weights; None: itself
    marks: Marks = field(default_factory=dict)
    tokenizer: TextTokenizer = field(default_factory=Tokenizer)


def make_clip(
    family: Family,
    parts: Sequence[tuple[TextSource, Mapping[str, Tensor]]],
    dtype: str,
    find_embedding: FindEmbedding,
) -> StandaloneClip:
    sources = [source for source, _ in parts]
    towers = Towers(family, sources, nn, dtype=as_dtype(dtype) or torch.float32)
    towers.load_parts([state for _, state in parts])
    return StandaloneClip(towers.to(device()), PromptTokenizer(family, sources, find_embedding))


def make_clip_model(
    config: CLIPConfig, state: Mapping[str, Tensor], dtype: str, tokenizer: TextTokenizer | None = None
) -> StandaloneClipModel:
    network = network_of(config, dtype=as_dtype(dtype) or torch.float32)
    network.load_state_dict(state)
    network = network.requires_grad_(False).eval().to(device())
    return StandaloneClipModel(network, config, tokenizer=tokenizer or Tokenizer())


def clip_network(model: StandaloneClipModel) -> nn.Module:
    return model.network


def text_tokenizer(model: StandaloneClipModel) -> TextTokenizer:
    return model.tokenizer


def training_device() -> torch.device:
    return device()


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
