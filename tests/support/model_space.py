"""The space that a family's diffusion model works in: what the pack's own `to_raw` is held against."""

import torch

from clip_vae_lora.vae_core.config import FAMILIES


def to_model_space(latent: torch.Tensor, family: str) -> torch.Tensor:
    """(raw - shift) * scale, as the model cards state it. [B, C, h, w] -> [B, C, h, w]"""
    scale, shift = (
        torch.tensor(numbers, dtype=latent.dtype, device=latent.device).view(1, -1, 1, 1)
        for numbers in (FAMILIES[family].scale, FAMILIES[family].shift)
    )
    return (latent - shift) * scale
