"""Our autoencoders in the shape a host wants: `encode` gives a latent, not a distribution."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..autoencoder import AutoencoderKL, Posterior
from ..checkpoint.find import VAESource
from ..config import VAEConfig
from ..tiny import TinyAutoencoder, TinyConfig
from .plans import untiled_plan

NO_DISTRIBUTION = (
    "this VAE encodes to one latent and has no distribution: set posterior to mean in VAE Encode, or load a full VAE"
)


class KLNetwork(AutoencoderKL):
    """AutoencoderKL whose `encode` is the posterior's mean, as hosts expect; parameter names are LDM's."""

    def posterior(self, pixels: Tensor) -> Posterior:
        return super().encode(pixels)

    def encode(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] in -1..1 -> [B, C, h, w]"""
        return self.posterior(pixels).mean


VAENetwork = KLNetwork | TinyAutoencoder


def latent_of(found: Posterior | Tensor, seed: int | None) -> Tensor:
    """What encoding is asked for: the mean, with a seed a sample; a tiny autoencoder's latent as it is."""
    if isinstance(found, Tensor):
        return found
    return found.mean if seed is None else sampled(found, seed)


def sampled(posterior: Posterior, seed: int) -> Tensor:
    """A sample that depends on the seed alone: the noise is drawn on the CPU, whatever the device."""
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return posterior.mean + posterior.std * noise.to(posterior.mean)


def builder(source: VAESource) -> Callable[..., VAENetwork]:
    """`build(operations=..., device=..., dtype=...)` for the network of a file."""
    network = KLNetwork if source.kind == "kl" else TinyAutoencoder
    return partial(network, source.config, encoder=source.has_encoder, decoder=source.has_decoder)


def activation_bytes(config: VAEConfig | TinyConfig, way: str, cells: tuple[int, int], dtype_bytes: int) -> int:
    """What "decode" or "encode" of one picture of so many latent cells (height, width) needs, untiled."""
    return untiled_plan(config, (1, config.latent, *cells), dtype_bytes, way=way).needs_bytes
