"""Our small diffusion model without ComfyUI, under the names of tensors that it has there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ....diffusion.config import DiffusionConfig
from ....diffusion.network import Denoiser
from ..shared.towers import as_dtype
from .place import device


class Named(nn.Module):
    """The network under the name that LoRA files know a diffusion model by."""

    def __init__(self, network: Denoiser):
        super().__init__()
        self.diffusion_model = network


@dataclass(frozen=True)
class StandaloneModel:
    """A diffusion model. `identity` stands for the weights: another object for other weights."""

    named: Named
    identity: object = field(default_factory=object)

    @property
    def network(self) -> Denoiser:
        return self.named.diffusion_model


def make_model(config: DiffusionConfig, state: Mapping[str, Tensor], dtype: str) -> StandaloneModel:
    network = Denoiser(config, dtype=as_dtype(dtype) or torch.float32)
    network.load_state_dict(state)
    return StandaloneModel(Named(network.requires_grad_(False).eval().to(device())))
