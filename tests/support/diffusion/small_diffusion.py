"""A small random diffusion model for the bundled CLIP's text and four latent channels."""

import torch
from torch import Tensor

from clip_vae_lora.diffusion.config import DiffusionConfig
from clip_vae_lora.diffusion.network import Denoiser, initialise_

CONFIG = DiffusionConfig(latent=4, text=64, widths=(8, 32), blocks=(1, 1), attention=1, time=16)


def state(seed: int = 0, config: DiffusionConfig = CONFIG) -> dict[str, Tensor]:
    """The tensors of a model that no training made, none of whose branches is silent."""
    model = initialise_(Denoiser(config), seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        model.latent_scale.copy_(torch.tensor([0.7, 0.8, 1.1, 0.9]))
        model.latent_shift.copy_(torch.tensor([0.1, -0.2, 0.0, 0.3]))
        model.noise_shift.fill_(2.0)
    return model.state_dict()
