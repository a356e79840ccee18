"""ComfyUI's VAE with our network in it, and ours or the stock VAE at work.

`comfy.sd.VAE` builds itself round the smallest network it knows, so that it has every attribute that this version of
the host asks for; then the network and its numbers are ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import cast

import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import torch
from torch import Tensor, nn

from ....training.vae.trainee import VAETrainee
from ....vae_core.channels import as_colours, with_channels
from ....vae_core.networks.wan_config import WanConfig
from ....vae_core.posterior import Encoding, Posterior, latent_of
from ....vae_core.tiling import work
from ....vae_core.tiling.network import VAENetwork
from ....vae_core.tiling.plans import untiled_bytes
from ....vae_core.tiling.work import Tiling, Worked
from ..shared.towers import as_dtype
from ..shared.vae_facts import NO_VAE, PICTURES, SHAPES, SOUND, VIDEOS, VAEFacts
from .progress import progress
from .vaes.its_own import by_the_host, has_moments, no_distribution, posterior_of
from .vaes.layers import Stock, network_over
from .vaes.learning import trainee_of
from .vaes.memory import required, room

_DTYPES = [torch.bfloat16, torch.float32]  # SDXL's VAE overflows in float16


class ExactVAE(comfy.sd.VAE):
    """ComfyUI's VAE that works in our exact tiles wherever ComfyUI asks for tiles: its tiled nodes, and when memory
    runs out. The overlap is not used: there are no seams to hide.
    """

    def vae_encode_crop_pixels(self, pixels):
        return with_channels(super().vae_encode_crop_pixels(pixels), self.output_channels)

    def decode(self, samples_in, vae_options=None):
        return as_colours(super().decode(samples_in, vae_options or {}))

    def decode_tiled(self, samples, **tiles):
        return as_colours(super().decode_tiled(samples, **tiles))

    def decode_tiled_(self, samples, tile_x=64, tile_y=64, overlap=16):
        worked = work.decode(
            self.first_stage_model,
            samples.to(self.vae_dtype),
            Tiling("tile", tile=(tile_y, tile_x)),
            room(self),
            progress(1),
            lambda: _in_float32(self.first_stage_model),
        )
        return self.process_output(_log_notes(worked).float())

    def decode_tiled_3d(self, samples, tile_t=999, tile_x=32, tile_y=32, overlap=None):
        return self.decode_tiled_(samples, tile_x, tile_y)

    def encode_tiled_(self, pixel_samples, tile_x=512, tile_y=512, overlap=64):
        factor = self.first_stage_model.config.factor
        tiling = Tiling("tile", tile=(max(1, tile_y // factor), max(1, tile_x // factor)))
        worked = work.encode(
            self.first_stage_model,
            self.process_input(pixel_samples).to(self.vae_dtype),
            tiling,
            room(self),
            progress(1),
            lambda: _in_float32(self.first_stage_model),
        )
        return latent_of(_log_notes(worked), None).float()

    def encode_tiled_3d(self, samples, tile_t=9999, tile_x=512, tile_y=512, overlap=None):
        return self.encode_tiled_(samples, tile_x, tile_y)


def _log_notes(worked: Worked) -> Encoding:
    """The result; what went otherwise than planned is logged, for a stock node has no report."""
    for note in worked.notes:
        logging.getLogger(__name__).warning("VAE in tiles: %s", note)
    return worked.result


def make_vae(network: Callable[..., VAENetwork], state: Mapping[str, Tensor], dtype: str) -> comfy.sd.VAE:
    chosen = as_dtype(dtype) or management.vae_dtype(management.vae_device(), _DTYPES)
    vae = ExactVAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=chosen)  # the donor: see the docstring
    net = network(operations=comfy.ops.manual_cast, dtype=chosen)
    net.load_state_dict(state)
    net.requires_grad_(False).eval()
    vae.first_stage_model = net
    vae.downscale_ratio = vae.upscale_ratio = net.config.factor
    vae.latent_channels, vae.latent_dim, vae.output_channels = net.config.latent, 2, net.config.image_channels
    vae.pad_channel_value = 1.0  # a picture without alpha is opaque
    if net.has_frames:
        _takes_videos(vae, net)
    vae.working_dtypes, vae.vae_dtype = _DTYPES, chosen
    vae.memory_used_encode = lambda shape, dtype: untiled_bytes(net, "encode", shape, management.dtype_size(dtype))
    vae.memory_used_decode = lambda shape, dtype: untiled_bytes(net, "decode", shape, management.dtype_size(dtype))
    vae.process_input = lambda image: image * 2 - 1
    # in place and returned: the newer host ignores what is returned (sd.py:1251), the older one what is changed
    vae.process_output = lambda pixels: pixels.add_(1).div_(2).clamp_(0, 1)
    vae.patcher = comfy.model_patcher.ModelPatcher(
        net, load_device=vae.device, offload_device=management.vae_offload_device()
    )
    vae.disable_offload = True  # loaded whole: no layer of it waits on another device
    if hasattr(vae, "size"):
        vae.size = None  # the newer host's remembered size of the donor's weights
    return vae


def _takes_videos(vae: comfy.sd.VAE, net: VAENetwork) -> None:
    """What the host asks of a VAE whose latents are [B, C, t, h, w], as its own Wan VAE answers."""
    config = cast(WanConfig, net.config)
    factor = config.factor
    vae.latent_dim = 3
    vae.upscale_ratio = (lambda frames: max(0, config.video_frames(frames)), factor, factor)
    vae.downscale_ratio = (lambda frames: max(0, config.latent_frames(frames)), factor, factor)
    vae.upscale_index_formula = vae.downscale_index_formula = (config.frame_factor, factor, factor)


def trainable_vae(vae: comfy.sd.VAE) -> VAETrainee:
    network = getattr(vae, "first_stage_model", None)
    if network is None:
        raise ValueError(NO_VAE)
    return trainee_of(vae, network, lambda: room(vae))


_SHAPES = {"ShapeVae", "TextureVae", "ShapeVAE", "OctreeGaussianDecoder"}  # Trellis 2, Hunyuan3D, TripoSplat


def vae_facts(vae: comfy.sd.VAE) -> VAEFacts:
    network = getattr(vae, "first_stage_model", None)
    if network is None:
        raise ValueError(NO_VAE)  # comfy.sd.VAE of a file without one
    to_encode, to_decode, frames = _sizes(vae, network)
    return VAEFacts(
        network.title if isinstance(network, VAENetwork) else type(network).__name__,
        _makes(vae, type(network).__name__),
        vae.latent_channels,
        to_encode,
        to_decode,
        vae.output_channels,
        vae.latent_dim == 3 and not vae.not_video,
        frames,
    )


def _sizes(vae: comfy.sd.VAE, network: nn.Module) -> tuple[int, int, Callable[[int], int] | None]:
    """Pixels per latent cell to encode and to decode, and the frames that so many latent frames become."""
    if getattr(network, "patch_size", 1) == 4 and hasattr(network, "frames_to_trim"):
        # LTX-2's tiny autoencoder, of which the host tells the sizes of Wan 2.2's (0.33.0, sd.py "Wan 2.2 and LTX2")
        cell_px, grows, trimmed = 8 * network.patch_size, network.t_upscale, network.frames_to_trim
        return cell_px, cell_px, lambda count: count * grows - trimmed
    frames = vae.upscale_ratio[0] if isinstance(vae.upscale_ratio, tuple) else None
    return vae.spacial_compression_encode(), vae.spacial_compression_decode(), frames


def _makes(vae: comfy.sd.VAE, kind: str) -> str:
    if kind in _SHAPES:
        return SHAPES
    if vae.latent_dim == 1 or vae.extra_1d_channel is not None or vae.output_channels == 2:
        return SOUND
    return VIDEOS if vae.latent_dim == 3 else PICTURES


def encode_image(vae: comfy.sd.VAE, image: Tensor, seed: int | None, tiling: Tiling) -> Worked:
    pixels, network = _to_encode(vae, image, tiling)
    if network is None and seed is None:
        return by_the_host(vae, vae.encode(with_channels(image, vae.output_channels)), tiling)
    worked = _encode(vae, network, pixels, tiling) if seed is None else _distribution(vae, network, pixels, tiling)
    return replace(worked, result=latent_of(worked.result, seed).to(vae.output_device).float())


def posterior(vae: comfy.sd.VAE, image: Tensor) -> Worked:
    pixels, network = _to_encode(vae, image, Tiling())
    worked = _distribution(vae, network, pixels, Tiling())
    found = [values.to(vae.output_device).float() for values in (worked.result.mean, worked.result.logvar)]
    return replace(worked, result=Posterior(*found))


def _distribution(vae: comfy.sd.VAE, network: VAENetwork | None, pixels: Tensor, tiling: Tiling) -> Worked:
    """The posterior by our network, or by the layers of the host's. Raises ValueError where there is none."""
    if network is None and has_moments(vae.first_stage_model):
        _load(vae, vae.memory_used_encode(pixels.shape, vae.vae_dtype))
        with _on_device(vae):
            return by_the_host(vae, posterior_of(vae, pixels), tiling)
    if network is None or not network.has_distribution:
        raise ValueError(no_distribution(vae, network))
    return _encode(vae, network, pixels, tiling)


def _to_encode(vae: comfy.sd.VAE, image: Tensor, tiling: Tiling) -> tuple[Tensor, VAENetwork | None]:
    """[B, H, W, C] -> [B, C, H, W] with the channels that it wants, in whole cells, or a video; and the network."""
    pixels = vae.vae_encode_crop_pixels(with_channels(image, vae.output_channels)).movedim(-1, 1)
    if vae.latent_dim == 3:  # the pictures are the frames of one video, as for the stock nodes
        pixels = pixels.unsqueeze(2) if vae.not_video else pixels.movedim(1, 0).unsqueeze(0)
    return pixels, _network(vae, lambda: required(vae, "encode", pixels.shape, tiling))


def _encode(vae: comfy.sd.VAE, network: VAENetwork, pixels: Tensor, tiling: Tiling) -> Worked:
    pixels = vae.process_input(pixels).to(vae.vae_dtype)
    with _on_device(vae):
        return work.encode(network, pixels, tiling, room(vae), progress(1), lambda: _in_float32(network))


def decode_latent(vae: comfy.sd.VAE, latent: Tensor, tiling: Tiling) -> Worked:
    network = _network(vae, lambda: required(vae, "decode", latent.shape, tiling))
    if network is None:
        return by_the_host(vae, _pictures(vae.decode(latent)), tiling)
    with _on_device(vae):
        worked = work.decode(
            network, latent.to(vae.vae_dtype), tiling, room(vae), progress(1), lambda: _in_float32(network)
        )
    image = vae.process_output(worked.result.float()).to(vae.output_device).movedim(1, -1)
    return replace(worked, result=_pictures(image))


def _pictures(image: Tensor) -> Tensor:
    """The frames of videos [B, T, H, W, C] as pictures one after another, as stock VAEDecode gives them."""
    return as_colours(image).reshape(-1, *image.shape[-3:])


def _network(vae: comfy.sd.VAE, memory: Callable[[], int]) -> VAENetwork | None:
    """Our network, loaded with its patches: the VAE's own, or one over the layers of a stock AutoencoderKL, TAESD or
    Wan's VAE. None for other kinds, which load themselves and count `memory` by other shapes.
    """
    network = vae.first_stage_model
    if not isinstance(network, VAENetwork | Stock):
        return None
    _load(vae, memory())
    return network if isinstance(network, VAENetwork) else network_over(network)


def _on_device(vae: comfy.sd.VAE) -> AbstractContextManager:
    """The newer host makes a VAE's GPU the current one while it works."""
    context = getattr(management, "cuda_device_context", None)
    return nullcontext() if context is None else context(vae.device)


def _load(vae: comfy.sd.VAE, memory: int) -> None:
    whole = {"force_full_load": True} if getattr(vae, "disable_offload", False) else {}
    management.load_models_gpu([vae.patcher], memory_required=memory, **whole)


def _in_float32(network: VAENetwork) -> VAENetwork:
    return network  # its layers cast their weights to the type of what they are given
