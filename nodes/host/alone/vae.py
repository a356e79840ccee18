"""VAEs without ComfyUI: encode and decode, whole or in tiles."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from ....training.vae.trainee import VAETrainee
from ....vae_core.channels import as_colours, with_channels
from ....vae_core.networks.wan_config import WanConfig
from ....vae_core.posterior import Posterior, latent_of
from ....vae_core.tiling import work
from ....vae_core.tiling.network import VAENetwork, has_half
from ....vae_core.tiling.plans import BudgetError
from ....vae_core.tiling.work import Room, Tiling, Worked
from ..shared.device_errors import is_out_of_memory, sentences
from ..shared.towers import as_dtype, name_of_dtype
from ..shared.vae_facts import PICTURES, VIDEOS, VAEFacts
from ..shared.vae_room import NO_DISTRIBUTION, room_on
from .clip import device_of
from .place import device, free_device_bytes, free_memory_bytes
from .progress import progress


@dataclass(frozen=True)
class StandaloneVAE:
    network: VAENetwork


def make_vae(network: Callable[..., VAENetwork], state: Mapping[str, Tensor], dtype: str) -> StandaloneVAE:
    net = network(dtype=as_dtype(dtype) or torch.float32)
    net.load_state_dict(state)
    return StandaloneVAE(_place(net.requires_grad_(False).eval()))


@sentences("loading a VAE")
def _place(network: VAENetwork) -> VAENetwork:
    try:
        return network.to(device())
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        needs = sum(tensor.numel() * tensor.element_size() for tensor in network.parameters())
        raise BudgetError(
            f"the graphics card has no room for this VAE's weights ({needs / 1e6:,.0f} MB): close what else uses it"
        ) from error


def vae_facts(vae: StandaloneVAE) -> VAEFacts:
    network, config = vae.network, vae.network.config
    return VAEFacts(
        network.title,
        VIDEOS if network.has_frames else PICTURES,
        config.latent,
        config.factor,
        config.factor,
        config.image_channels,
        network.has_frames,
        cast(WanConfig, config).video_frames if network.has_frames else None,
    )


def encode_image(vae: StandaloneVAE, image: Tensor, seed: int | None, tiling: Tiling) -> Worked:
    if seed is not None:
        _check_distribution(vae)
    worked = _encode(vae, image, tiling)
    return replace(worked, result=latent_of(worked.result, seed).float())


def posterior(vae: StandaloneVAE, image: Tensor) -> Worked:
    _check_distribution(vae)
    worked = _encode(vae, image, Tiling())
    return replace(worked, result=Posterior(worked.result.mean.float(), worked.result.logvar.float()))


def _check_distribution(vae: StandaloneVAE) -> None:
    if not vae.network.has_distribution:
        raise ValueError(f"{NO_DISTRIBUTION} (a {vae.network.title})")


def _encode(vae: StandaloneVAE, image: Tensor, tiling: Tiling) -> Worked:
    image = with_channels(_to_whole_cells(image, vae.network.config.factor), vae.network.config.image_channels)
    pixels = image.movedim(-1, 1) * 2 - 1
    if vae.network.has_frames:  # the pictures are the frames of one video, as in ComfyUI
        pixels = pixels.movedim(1, 0).unsqueeze(0)
    return work.encode(
        vae.network, pixels.to(_dtype_of(vae)), tiling, _room(vae), progress(1), lambda: _in_float32(vae)
    )


def _to_whole_cells(image: Tensor, factor: int) -> Tensor:
    """[B, H, W, C] -> cut at the centre to whole cells, as ComfyUI does."""
    height, width = (side // factor * factor for side in image.shape[1:3])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


def decode_latent(vae: StandaloneVAE, latent: Tensor, tiling: Tiling) -> Worked:
    worked = work.decode(
        vae.network, latent.to(_dtype_of(vae)), tiling, _room(vae), progress(1), lambda: _in_float32(vae)
    )
    image = as_colours((worked.result.float() + 1).div(2).clamp(0, 1).movedim(1, -1))
    return replace(worked, result=image.reshape(-1, *image.shape[-3:]))  # the frames of videos one after another


def trainable_vae(vae: StandaloneVAE) -> VAETrainee:
    network = vae.network
    with torch.inference_mode(False):
        state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in network.state_dict().items()}
    halves = {half: has_half(network, way) for half, way in (("encoder", "encode"), ("decoder", "decode"))}

    build = partial(type(network), network.config, **halves)
    return VAETrainee(build, state, lambda: _room(vae), name_of_dtype(_dtype_of(vae)))


def _dtype_of(vae: StandaloneVAE) -> torch.dtype:
    return next(vae.network.parameters()).dtype


def _in_float32(vae: StandaloneVAE) -> VAENetwork:
    return copy.deepcopy(vae.network).float()


@sentences("asked for its free memory")
def _room(vae: StandaloneVAE) -> Room:
    place = device_of(vae.network)
    return room_on(place, torch.device("cpu"), free_device_bytes(place), free_memory_bytes())
