"""ComfyUI's VAE with our network in it, and ours or the stock VAE at work.

`comfy.sd.VAE` builds itself round the smallest network it knows, so that it has every attribute that this version of
the host asks for; then the network and its numbers are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import torch
from comfy.ldm.models.autoencoder import AutoencodingEngine
from torch import Tensor

from ...vae_core.autoencoder import Posterior
from .text_encoders import as_dtype
from .vae_network import NO_DISTRIBUTION, KLNetwork, VAENetwork, activation_bytes_per_pixel, sampled

_DTYPES = [torch.bfloat16, torch.float32]  # SDXL's VAE overflows in float16


def make_vae(network: Callable[..., VAENetwork], state: Mapping[str, Tensor], dtype: str) -> comfy.sd.VAE:
    chosen = as_dtype(dtype) or management.vae_dtype(management.vae_device(), _DTYPES)
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=chosen)  # the donor: see the docstring
    net = network(operations=comfy.ops.manual_cast, dtype=chosen)
    net.load_state_dict(state)
    net.requires_grad_(False).eval()
    factor, config = net.config.factor, net.config
    vae.first_stage_model = net
    vae.downscale_ratio = vae.upscale_ratio = factor
    vae.latent_channels, vae.latent_dim, vae.output_channels = config.latent, 2, 3
    vae.working_dtypes, vae.vae_dtype = _DTYPES, chosen
    encode_bytes, decode_bytes = activation_bytes_per_pixel(config)
    vae.memory_used_encode = lambda shape, dtype: encode_bytes * shape[2] * shape[3] * management.dtype_size(dtype)
    vae.memory_used_decode = lambda shape, dtype: (
        decode_bytes * shape[2] * shape[3] * factor * factor * management.dtype_size(dtype)
    )
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


def latent_channels(vae: comfy.sd.VAE) -> int | None:
    return vae.latent_channels if getattr(vae, "latent_dim", 2) == 2 else None


def pixels_per_cell(vae: comfy.sd.VAE) -> int | None:
    return vae.spacial_compression_encode() if getattr(vae, "latent_dim", 2) == 2 else None


def encode_image(vae: comfy.sd.VAE, image: Tensor, seed: int | None) -> Tensor:
    image = image[..., :3]
    if seed is None:
        return vae.encode(image)
    return sampled(_distribution(vae, image), seed).to(vae.output_device).float()


def posterior(vae: comfy.sd.VAE, image: Tensor) -> tuple[Tensor, Tensor]:
    found = _distribution(vae, image[..., :3])
    return found.mean.to(vae.output_device).float(), found.logvar.to(vae.output_device).float()


def _distribution(vae: comfy.sd.VAE, image: Tensor) -> Posterior:
    memory = vae.memory_used_encode((image.shape[0], 3, *image.shape[1:3]), vae.vae_dtype)
    management.load_models_gpu([vae.patcher], memory_required=memory, force_full_load=vae.disable_offload)
    image = vae.vae_encode_crop_pixels(image)
    pixels = vae.process_input(image.movedim(-1, 1)).to(device=vae.device, dtype=vae.vae_dtype)
    return _posterior(vae.first_stage_model, pixels)


def _posterior(network: torch.nn.Module, pixels: Tensor) -> Posterior:
    if isinstance(network, KLNetwork):
        return network.posterior(pixels)
    if not isinstance(network, AutoencodingEngine) or getattr(network, "bn", None) is not None:
        raise ValueError(
            f"{NO_DISTRIBUTION} ({type(network).__name__})"
        )
    moments = network.encoder(pixels)
    return Posterior.from_moments(network.quant_conv(moments) if hasattr(network, "quant_conv") else moments)


def decode_latent(vae: comfy.sd.VAE, latent: Tensor) -> Tensor:
    image = vae.decode(latent)
    return image.reshape(-1, *image.shape[-3:])  # video VAEs give [B, T, H, W, 3]; stock VAEDecode does the same
