"""Files of the published layouts and sizes with seeded random weights, for a real ComfyUI to load."""

from pathlib import Path

import torch

from clip_vae_lora.clip_core.config import TEXT_FAMILIES
from clip_vae_lora.clip_core.text import CLIPText
from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.vae_core.autoencoder import AutoencoderKL
from clip_vae_lora.vae_core.config import VAEConfig


def seeded(build, seed: int, *, std: float = 0.02) -> dict[str, torch.Tensor]:
    """The state dict of `build()` in float16, with weights of a trained network's size: N(0, std), norms at one."""
    with torch.device("meta"):
        network = build()
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in network.state_dict().items():
        values = torch.randn(tensor.shape, generator=generator) * std
        if tensor.ndim == 1 and name.endswith("weight"):
            values += 1
        state[name] = values.half()
    return state


def text_encoder(path: Path, encoder: str, seed: int) -> Path:
    """clip_l, clip_h or clip_g alone in a file, Hugging Face names, fp16."""
    state = seeded(lambda: CLIPText(TEXT_FAMILIES[encoder]), seed)
    write_tensors(path, state, {})
    return path


def sd1_vae(path: Path, seed: int) -> Path:
    """The VAE of SD1 in full size, LDM names, fp16."""
    write_tensors(path, seeded(lambda: AutoencoderKL(VAEConfig(128, (1, 2, 4, 4), 2, 4, True)), seed), {})
    return path
