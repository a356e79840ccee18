"""Tiny networks in files of the published layouts, random and seeded."""

from pathlib import Path

import torch

from clip_vae_lora.clip_core.config import CLIPConfig, TextConfig, VisionConfig
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL

CLIP_CONFIG = CLIPConfig(TextConfig(64, 2, 1, 128, 32), VisionConfig(64, 2, 1, 128, 8, 32, 32))
VAE_CONFIG = VAEConfig(32, (1, 2), 1, 4, True)


def seeded(network: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=generator) * 0.05 + (tensor.ndim == 1 and name.endswith("weight"))
        for name, tensor in network.state_dict().items()
    }


def clip_file(path: Path, **changes: torch.Tensor) -> Path:
    write_tensors(path, seeded(CLIP(CLIP_CONFIG)) | changes, {})
    return path


def text_state() -> dict[str, torch.Tensor]:
    """A text encoder without a projection, as SD1 checkpoints hold it."""
    whole = seeded(CLIP(CLIP_CONFIG))
    return {name: tensor for name, tensor in whole.items() if name.startswith("text_model.")}


def vae_file(path: Path, latent: int = 4) -> Path:
    config = VAEConfig(32, (1, 2), 1, latent, latent == 4)
    write_tensors(path, seeded(AutoencoderKL(config)), {})
    return path


def lora_file(path: Path, names: list[str], width: int = 64, rank: int = 2) -> Path:
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name in names:
        tensors[f"{name}.lora_up.weight"] = torch.randn(width, rank, generator=generator)
        tensors[f"{name}.lora_down.weight"] = torch.randn(rank, width, generator=generator)
        tensors[f"{name}.alpha"] = torch.tensor(float(rank))
    write_tensors(path, tensors, {})
    return path
