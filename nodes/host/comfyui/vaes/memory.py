"""What a VAE at work may use of ComfyUI's card, and what ComfyUI is asked to make free for it."""

from __future__ import annotations

import comfy.model_management as management
import comfy.sd
import torch
from torch import nn

from .....vae_core.checkpoint.find import LayoutError, find_vae
from .....vae_core.tiling.network import NetworkConfig, VAENetwork
from .....vae_core.tiling.room import Room, Tiling, required_bytes
from ...shared.device_errors import sentences
from ...shared.vae_room import room_on

_WEIGHTS = 1.1  # ComfyUI keeps so much free for weights that it loads (load_models_gpu)


@sentences("asked for its free memory")
def room(vae: comfy.sd.VAE) -> Room:
    """The card as ComfyUI sees it."""
    return room_on(
        torch.device(vae.device),
        torch.device(vae.output_device),
        _free_bytes(vae),
        management.get_free_memory(torch.device("cpu")),
        management.soft_empty_cache,
    )


def _free_bytes(vae: comfy.sd.VAE) -> int:
    """What torch's allocator holds unused is among it, and on the newer host also what models under Dynamic VRAM give
    up as soon as somebody wants it: the host's own rule for batches (model_patcher.py:417).
    """
    device = torch.device(vae.device)
    of_patcher = getattr(vae.patcher, "get_free_memory", None)
    return management.get_free_memory(device) if of_patcher is None else of_patcher(device)


@sentences("asked for its free memory")
def required(vae: comfy.sd.VAE, way: str, shape: tuple[int, ...], tiling: Tiling) -> int:
    """`memory_required` for ComfyUI's load_models_gpu, which unloads other models until so much is free: of a network
    of ours or a stock one of a layout that we know what our plan needs (`required_bytes`), of others what the VAE says.

    `shape` is the latent's or, to encode, the picture's: [B, C, h, w], of videos [B, C, t, h, w].
    """
    known = _config(vae.first_stage_model)
    if known is None:
        return (vae.memory_used_decode if way == "decode" else vae.memory_used_encode)(shape, vae.vae_dtype)
    kind, config = known
    config, cells = kind.sized(config, way, shape)
    weights = max(0, vae.patcher.model_size() - vae.patcher.loaded_size())
    free = round(_free_bytes(vae) - _WEIGHTS * weights)
    place = room_on(torch.device(vae.device), torch.device(vae.output_device), max(0, free))
    return required_bytes(way, config, cells, management.dtype_size(vae.vae_dtype), tiling, place)


def _config(network: nn.Module) -> tuple[type[VAENetwork], NetworkConfig] | None:
    """Our kind of a network and its sizes; None where its tensors are of no layout that we know."""
    if isinstance(network, VAENetwork):
        return type(network), network.config
    try:
        source = find_vae({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
    except LayoutError:
        return None
    return source.network, source.config
