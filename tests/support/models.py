"""Files of the published layouts and sizes with seeded random weights, for a real ComfyUI to load."""

from pathlib import Path

import torch

from clip_vae_lora.clip_core.config import TEXT_FAMILIES
from clip_vae_lora.clip_core.networks.text import CLIPText
from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL


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


def sd15_model(context_dim: int):
    """A MODEL with SD1.5's layers under SD1.5's names, a tenth as wide, random."""
    import comfy.model_patcher
    import comfy.supported_models

    unet = {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": (1, 2, 4, 4), "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "num_heads": 8,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1,
        "num_head_channels": -1, "context_dim": context_dim,
        "use_spatial_transformer": True, "legacy": False, "adm_in_channels": None, "dtype": torch.float32,
        "use_linear_in_transformer": False, "use_temporal_attention": False,
    }  # fmt: skip
    model = comfy.supported_models.SD15(unet).get_model({}, "", device="cpu")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, cpu, cpu)
