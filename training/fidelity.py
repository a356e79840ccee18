"""How near an autoencoder's pictures come to the originals, in dB."""

from statistics import fmean

import torch
from torch import Generator, Tensor

from ..vae_core.networks.kl import AutoencoderKL
from ..vae_core.quality import psnr_db
from .device import sent
from .scenes.textures import KINDS


def round_trip(model: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Encoded to the likeliest latent, decoded, clamped. [B, 3, H, W] in 0..1 -> the same, on the pictures' device"""
    device = next(model.parameters()).device
    with torch.inference_mode():
        return torch.cat(
            [
                (model.decode(model.posterior(part * 2 - 1).mode).float() / 2 + 0.5).clamp(0, 1)
                for part in sent(pictures, device).split(4)
            ]
        ).to(pictures.device)


def vae_scores(model: AutoencoderKL, seed: int, count: int = 100) -> dict[str, float]:
    """Mean PSNR in dB over fresh pictures: each kind at 256 px (a fifth of `count`), scenes also at 64 px; and the
    deviation of the latents of scenes, of all channels together and of the one that carries least.
    """
    generator = Generator().manual_seed(seed)
    few = max(4, count // 5)
    pictures = {f"{name}, 256 px": kind(few, 256, generator) for name, kind in KINDS.items()}
    pictures["scenes, 64 px"] = KINDS["scenes"](count, 64, generator)
    scores = {name: fmean(map(psnr_db, batch, round_trip(model, batch))) for name, batch in pictures.items()}
    with torch.inference_mode():
        scenes = sent(pictures["scenes, 256 px"], next(model.parameters()).device)
        latent = model.posterior(scenes * 2 - 1).mode
        scores["latent deviation"] = float(latent.std())
        scores["latent deviation, weakest channel"] = float(latent.std(dim=(0, 2, 3)).min())
    return scores
