"""VAEs that only ComfyUI knows how to run: their results, and the distributions that some of them give."""

from __future__ import annotations

import comfy.sd
import torch
from comfy.ldm.models.autoencoder import AutoencodingEngine, DiagonalGaussianRegularizer
from torch import Tensor, nn

from .....vae_core.posterior import Encoding, Posterior
from .....vae_core.tiling.network import VAENetwork
from .....vae_core.tiling.work import Tiling, Worked
from ...shared.vae_room import NO_DISTRIBUTION


def by_the_host(vae: comfy.sd.VAE, result: Encoding, tiling: Tiling) -> Worked:
    """The result of a VAE that only ComfyUI knows how to run; a budget that was asked for was not kept."""
    kind, notes = type(vae.first_stage_model).__name__, ()
    if tiling.mode == "budget":
        notes = (
            f"the budget of {tiling.budget_mb} MB was not kept: our tiles are for AutoencoderKL, TAESD, Wan and "
            f"Qwen-Image, and "
            f"ComfyUI, which runs this {kind}, takes tiles only when memory runs out",
        )
    plan = (
        f"by ComfyUI itself: our networks do not describe this kind of VAE ({kind}); where memory runs out, ComfyUI's "
        "tiles overlap and are blended, which is near the whole and not exact"
    )
    return Worked(result, plan, notes)


def no_distribution(vae: comfy.sd.VAE, network: VAENetwork | None) -> str:
    """Why there is only one latent to be had from this VAE, in a sentence."""
    kind = type(vae.first_stage_model).__name__
    if network is not None:
        return f"{NO_DISTRIBUTION} ({kind})"
    return (
        "the distribution of latents is read from VAEs whose encoder gives mean and variance, and this one is of "
        f"another kind ({kind}), of which ComfyUI gives one latent: set posterior to mean in VAE Encode, or load "
        "another VAE"
    )


def has_moments(network: nn.Module) -> bool:
    """Whether this network of the host's has an encoder that gives the mean and the log-variance of a latent."""
    return (
        isinstance(network, AutoencodingEngine)
        and isinstance(network.regularization, DiagonalGaussianRegularizer)
        and getattr(network, "bn", None) is None
    )


def posterior_of(vae: comfy.sd.VAE, pixels: Tensor) -> Posterior:
    """What the encoder of a network with `has_moments`, which is loaded, gives before the host keeps its mean alone.

    Pixels [B, C, H, W] or [B, C, T, H, W] in 0..1 -> Posterior on the output device, one picture or video at a time.
    """
    network, found = vae.first_stage_model, list[Tensor]()
    with torch.no_grad():
        for one in pixels.split(1):
            moments = network.encoder(vae.process_input(one).to(vae.vae_dtype).to(vae.device))
            quant = getattr(network, "quant_conv", None)
            found.append((moments if quant is None else quant(moments)).to(vae.output_device).float())
    return Posterior.from_moments(torch.cat(found))
