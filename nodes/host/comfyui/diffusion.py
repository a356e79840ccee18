"""Our small diffusion model as ComfyUI's MODEL: its samplers, LoRA loaders and ModelSave take it like any other."""

from __future__ import annotations

from collections.abc import Mapping

import comfy.latent_formats
import comfy.model_base
import comfy.model_management as management
import comfy.model_patcher
import comfy.supported_models_base
import torch
from torch import Tensor

from ....diffusion.config import DiffusionConfig, LatentScale
from ....diffusion.network import Denoiser
from ..shared.towers import as_dtype

_DTYPES = [torch.float16, torch.bfloat16, torch.float32]


class SmallLatents(comfy.latent_formats.LatentFormat):
    """The space of the model's latents: each channel of the autoencoder's moved and scaled to deviation 1."""

    def __init__(self, latents: LatentScale):
        self.latents, self.latent_channels = latents, len(latents.scale)

    def process_in(self, latent: Tensor) -> Tensor:
        return self.latents.to_model(latent)

    def process_out(self, latent: Tensor) -> Tensor:
        return self.latents.to_raw(latent)


class SmallConfig(comfy.supported_models_base.BASE):
    """What ComfyUI asks a model's configuration for."""

    memory_usage_factor = 0.5
    supported_inference_dtypes = _DTYPES

    def __init__(self, config: DiffusionConfig, state: Mapping[str, Tensor]):
        super().__init__({})
        self.unet_config = {"in_channels": config.latent, "context_dim": config.text}
        self.latent_format = SmallLatents(LatentScale(state["latent_scale"].float(), state["latent_shift"].float()))
        self.sampling_settings = {"shift": float(state["noise_shift"]), "multiplier": 1.0}


class CalledByComfyUI(Denoiser):
    """The network, called as ComfyUI calls its own."""

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, **_: object) -> Tensor:
        if context is None:
            raise ValueError("a prompt was expected, but none came: connect a CONDITIONING to the sampler")
        return super().forward(x, timesteps, context)


class SmallModel(comfy.model_base.BaseModel):
    """ComfyUI's model round our network: flow matching, the prompt by cross-attention."""

    def __init__(self, settings: SmallConfig, config: DiffusionConfig):
        def build(*, dtype: torch.dtype, device: object, operations: type, **_: object) -> CalledByComfyUI:
            return CalledByComfyUI(config, operations=operations, device=device, dtype=dtype)

        super().__init__(settings, comfy.model_base.ModelType.FLOW, unet_model=build)


def make_model(config: DiffusionConfig, state: Mapping[str, Tensor], dtype: str) -> comfy.model_patcher.ModelPatcher:
    load_device, offload_device = management.get_torch_device(), management.unet_offload_device()
    numbers = sum(tensor.numel() for tensor in state.values())
    chosen = as_dtype(dtype) or management.unet_dtype(
        model_params=numbers, supported_dtypes=_DTYPES, weight_dtype=torch.float16
    )
    settings = SmallConfig(config, state)
    settings.set_inference_dtype(chosen, management.unet_manual_cast(chosen, load_device, _DTYPES))
    model = SmallModel(settings, config)
    model.diffusion_model.load_state_dict(state)
    model.diffusion_model.requires_grad_(False).eval()
    return comfy.model_patcher.ModelPatcher(model.to(offload_device), load_device, offload_device)
