"""A small VAE that learns, and pictures for it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from clip_vae_lora.training.record.digest import digest_of
from clip_vae_lora.training.vae.pictures import Picture
from clip_vae_lora.training.vae.trainee import VAETrainee
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL
from clip_vae_lora.vae_core.tiling.network import VAENetwork
from clip_vae_lora.vae_core.tiling.room import Room

CONFIG = VAEConfig(32, (1, 1), blocks=1, latent=4, quant=True)
CPU = torch.device("cpu")


def state(seed: int = 0, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """Weights of a small VAE, which nothing has trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {name: tensor.to(dtype) for name, tensor in AutoencoderKL(CONFIG).state_dict().items()}


def trainee(weights: Mapping[str, Tensor] | None = None, network: type[VAENetwork] = AutoencoderKL, config=CONFIG):
    """The small VAE as something that can be trained."""
    return VAETrainee(
        lambda device, dtype: network(config, device=device, dtype=dtype),
        state() if weights is None else weights,
        lambda: Room(CPU, CPU, None),
        "fp32",
    )


def picture(name: str, pixels: Tensor, repeats: int = 1) -> Picture:
    """A picture of these pixels. [H, W, 3] in 0..1 or in 8 bits"""
    return Picture(name, (pixels.shape[0], pixels.shape[1]), lambda: pixels, digest_of([pixels]), repeats)


def smooth(height: int, width: int, seed: int) -> Tensor:
    """A picture of soft colours, 8 bits. -> [H, W, 3]"""
    generator = torch.Generator().manual_seed(seed)
    few = torch.rand(1, 3, 4, 4, generator=generator)
    large = torch.nn.functional.interpolate(few, size=(height, width), mode="bicubic").clamp(0, 1)
    return (large[0].movedim(0, -1) * 255).round().to(torch.uint8)


def pictures(count: int = 4, side: int = 40) -> list[Picture]:
    """Pictures of soft colours, none like another."""
    return [picture(f"p{number}.png", smooth(side, side + 2 * number, number)) for number in range(count)]
