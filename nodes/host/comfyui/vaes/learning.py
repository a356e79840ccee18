"""A VAE of ComfyUI as something that can be trained: its weights, patches included, and our network for them."""

from __future__ import annotations

from collections.abc import Callable

import comfy.sd
import torch
from torch import Tensor, nn

from .....training.vae.trainee import VAETrainee
from .....vae_core.checkpoint.find import LayoutError, find_vae
from .....vae_core.tiling.room import Room
from ...shared.towers import name_of_dtype
from ..patches import base_weight


def trainee_of(vae: comfy.sd.VAE, network: nn.Module, room: Callable[[], Room]) -> VAETrainee:
    """The weights are read as a LoRA's are, for the host may keep them elsewhere than in its modules.

    Raises:
        ValueError: a VAE that our networks do not describe.
    """
    with torch.inference_mode(False):
        state = _weights(vae, network)
    try:
        source = find_vae({name: tuple(tensor.shape) for name, tensor in state.items()})
    except LayoutError as error:
        raise ValueError(
            f"this VAE ({type(network).__name__}) is of a kind that is not taken apart here ({error}): load one of SD, "
            "SDXL, SD3, Flux, or a TAESD"
        ) from error

    return VAETrainee(source.build, source.translate(state), room, name_of_dtype(vae.vae_dtype))


def _weights(vae: comfy.sd.VAE, network: nn.Module) -> dict[str, Tensor]:
    """Parameters with their patches, and buffers, as copies on the CPU."""
    parameters = dict(network.named_parameters())
    return {
        name: (base_weight(vae, name, changed=True) if name in parameters else tensor.detach()).to("cpu", copy=True)
        for name, tensor in network.state_dict().items()
    }
