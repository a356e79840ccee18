"""Diffusion models: our small one as a MODEL of ComfyUI, and any MODEL as something that can be trained.

A training goes the host's own way: `apply_model` answers with the picture that the network means, whatever it
predicts. What may not be lost there: weights that a loader made under inference mode cannot take part in a backward
pass and are replaced by equal ones; the newer host is told that it trains, for it has fused kernels without gradients;
attention is torch's.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import comfy.latent_formats
import comfy.model_base
import comfy.model_management as management
import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
import comfy.sd
import comfy.supported_models_base
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ....diffusion.config import DiffusionConfig, LatentScale
from ....diffusion.network import Denoiser
from ....training.lora.trainee import LearningText, Levels, make_ordinary_, own_copy
from ..shared.towers import as_dtype
from .kernels import PackedLayers, PlainKernels, Reliefs
from .prompts import learning_text

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


def make_model(config: DiffusionConfig, state: Mapping[str, Tensor], dtype: str) -> ModelPatcher:
    patcher = _made(config, state, dtype)
    # the newer host makes a second network of its own where it wants a deep copy, as its own trainer does
    patcher.cached_patcher_init = (lambda disable_dynamic=False: _made(config, state, dtype), ())
    return patcher


def _made(config: DiffusionConfig, state: Mapping[str, Tensor], dtype: str) -> ModelPatcher:
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
    return ModelPatcher(model.to(offload_device), load_device, offload_device)


_GUIDANCE_IN_TRAINING = 1.0
_MADE_FOR_FEW_STEPS = {"FluxSchnell", "ModelSamplingDiscreteDistilled"}  # ComfyUI's names of models and samplings

Prompt = Mapping[str, object]  # the host's conds by name, of one picture


@contextmanager
def trainee(model: ModelPatcher, clip: comfy.sd.CLIP | None = None) -> Iterator[ComfyTrainee]:
    if not isinstance(model, ModelPatcher) or not hasattr(model.model, "diffusion_model"):
        raise ValueError(f"a diffusion MODEL was expected, and this is {type(model).__name__}: connect a MODEL")
    text = None if clip is None else learning_text(clip)
    with torch.inference_mode(False):
        management.load_models_gpu([model, *([clip.patcher] if clip else [])], force_full_load=True)
        make_ordinary_(model.model.diffusion_model)
        if text:
            make_ordinary_(text.network)
        knows = hasattr(management, "in_training")
        before = knows and management.in_training
        model.pre_run()
        try:
            if knows:
                management.in_training = True
            yield ComfyTrainee(model, text)
        finally:
            if knows:
                management.in_training = before
            model.cleanup()


class ComfyTrainee:
    """See `training.lora.trainee.Trainee`."""

    def __init__(self, patcher: ModelPatcher, text: LearningText | None = None):
        self._model, self.text = patcher.model, text
        self._sampling = patcher.get_model_object("model_sampling")
        self._options = patcher.model_options.get("transformer_options", {})
        self.network: nn.Module = self._model.diffusion_model
        self.device = torch.device(patcher.load_device)
        self.levels = _levels_of(self._sampling)
        self._learned_guidance = bool(_config_of(self._model).get("guidance_embed"))
        self.notes = _notes_on(self._model, self._sampling, self._learned_guidance)
        packed = [PackedLayers(self.network)]
        if text:
            packed.append(PackedLayers(text.network))
            self.notes += [f"{name} is no CLIP and did not learn" for name in text.others]
        self.relief = Reliefs(PlainKernels(), *packed)

    def to_model(self, latent: Tensor) -> Tensor:
        own = fitting_latent(self._model.latent_format, latent.detach().clone())
        return self._model.process_latent_in(own.to(device=self.device, dtype=torch.float32))

    def to_raw(self, latent: Tensor) -> Tensor:
        return self._model.process_latent_out(latent.float())

    def noised(self, level: Tensor, noise: Tensor, latent: Tensor) -> Tensor:
        return self._sampling.noise_scaling(level, noise.clone(), latent.clone())  # it adds to its noise in place

    def affine(self, level: Tensor) -> tuple[Tensor, Tensor]:
        one = torch.ones(len(level), 1, 1, 1, device=level.device, dtype=torch.float32)
        of_output = self._sampling.calculate_denoised(level, one.clone(), torch.zeros_like(one))
        of_noisy = self._sampling.calculate_denoised(level, torch.zeros_like(one), one.clone())
        return of_noisy.flatten(), of_output.flatten()

    def prepare(self, conditioning: object, latent: Tensor) -> Prompt:
        entries = cast(list, conditioning)
        if len(entries) != 1:
            raise ValueError(
                f"one prompt for each picture was expected, and this one has {len(entries)} parts: leave Conditioning "
                "(Combine) and AND out of captions"
            )
        own = [[own_copy(entries[0][0]), {key: own_copy(value) for key, value in entries[0][1].items()}]]
        if self._learned_guidance:
            own[0][1].setdefault("guidance", _GUIDANCE_IN_TRAINING)
        converted = comfy.sampler_helpers.convert_cond(own)
        told = comfy.samplers.encode_model_conds(
            self._model.extra_conds, converted, latent, self.device, "positive", latent_image=latent
        )
        return {
            name: cond.process_cond(batch_size=len(latent), area=None) for name, cond in told[0]["model_conds"].items()
        }

    def denoised(self, noisy: Tensor, level: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        if all(_goes_with(prompts[0], prompt) for prompt in prompts[1:]):
            return self._apply(noisy, level, prompts)
        parts = zip(noisy.split(1), level.split(1), prompts)
        return torch.cat([self._apply(one, own, [prompt]) for one, own, prompt in parts])

    def _apply(self, noisy: Tensor, level: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        count = len(noisy)
        options = {
            **self._options,
            "cond_or_uncond": [0] * count,
            "sigmas": level,
            "sample_sigmas": torch.cat([level.sort(descending=True).values, torch.zeros_like(level[:1])]),
            "uuids": [uuid.uuid4() for _ in range(count)],
            "optimized_attention_override": _torch_attention,
        }
        conds = {
            name: value.to(self.device) if isinstance(value, Tensor) else value
            for name, value in comfy.samplers.cond_cat([dict(prompt) for prompt in prompts]).items()
        }
        return self._model.apply_model(noisy, level, **conds, transformer_options=options).float()


def fitting_latent(space: comfy.latent_formats.LatentFormat, latent: Tensor) -> Tensor:
    """The latent with the dimension of time that the model's latents have, or without it. [1, C, ...] -> [1, C, ...]

    Raises:
        ValueError: a latent of another model, or a video for a model of pictures.
    """
    channels, dimensions = space.latent_channels, getattr(space, "latent_dimensions", 2)
    if latent.ndim == 4 and dimensions == 3:
        latent = latent[:, :, None]
    elif latent.ndim == 5 and dimensions == 2 and latent.shape[2] == 1:
        latent = latent[:, :, 0]
    if latent.ndim != dimensions + 2 or latent.shape[1] != channels:
        raise ValueError(
            f"this model learns from latents of {channels} channels in {dimensions} dimensions, and this one is "
            f"{list(latent.shape)}: connect the VAE that belongs to the model"
        )
    return latent


def _config_of(model: comfy.model_base.BaseModel) -> Mapping[str, object]:
    return getattr(model.model_config, "unet_config", None) or {}


def _notes_on(model: comfy.model_base.BaseModel, sampling: nn.Module, learned_guidance: bool) -> list[str]:
    """What is known of how the model was distilled, which plain training undoes."""
    notes = []
    if learned_guidance:
        notes.append("guidance is built into this model (distilled): it was trained at 1.0, sample it as usual")
    names = {type(model.model_config).__name__, *(base.__name__ for base in type(sampling).__mro__)}
    if names & _MADE_FOR_FEW_STEPS:
        notes.append(
            "⚠ this model was distilled to few steps, which training undoes: train its base, and use the LoRA here"
        )
    return notes


def _torch_attention(function: object, *tensors: object, **how: object) -> Tensor:
    return attention_pytorch(*tensors, **how)  # others have no backward pass, or none that is exact


def _goes_with(one: Prompt, other: Prompt) -> bool:
    return one.keys() == other.keys() and all(cond.can_concat(other[name]) for name, cond in one.items())


def _levels_of(sampling: nn.Module) -> Levels:
    table = sampling.sigmas.detach().float().cpu()
    whole = hasattr(sampling, "log_sigmas") or not hasattr(sampling, "multiplier")

    def of(share: Tensor) -> Tensor:
        given = share.to(sampling.sigmas.device)
        return sampling.sigma(given * (1 if whole else sampling.multiplier)).float().cpu()

    return Levels(table, whole, of)
