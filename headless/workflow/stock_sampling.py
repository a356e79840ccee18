"""Stand-ins for the stock nodes that turn a prompt into a picture, for our own models, as `stock_nodes` says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...diffusion.network import Denoiser
from ...diffusion.sampling import SAMPLERS, Velocity, guided
from ...diffusion.schedules import SCHEDULES, levels_of
from ...nodes.host import host
from ...nodes.host.alone.diffusion import StandaloneModel
from ...nodes.text.encode import TextEncode

_SIDE = {"default": 512, "min": 16, "max": 16384, "step": 8}
_CELL_PX = 8  # of an empty latent, whatever the model's own is
_KNOWN = {"pooled_output", "strength"}  # what a conditioning may tell us; more has to be done by ComfyUI


class EmptyLatentImage:
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        batch = {"default": 1, "min": 1, "max": 4096}
        return {"required": {"width": ("INT", _SIDE), "height": ("INT", _SIDE), "batch_size": ("INT", batch)}}

    def run(self, width, height, batch_size=1):
        cells = (batch_size, 4, height // _CELL_PX, width // _CELL_PX)
        return ({"samples": torch.zeros(cells, dtype=torch.float32, device="cpu")},)


class CLIPTextEncode:
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"multiline": True, "dynamicPrompts": True}), "clip": ("CLIP",)}}

    def run(self, text, clip):
        return (TextEncode().encode(clip, text)["result"][0],)  # its defaults are the stock node's


class KSampler:
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL",),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}),
                "steps": ("INT", {"default": 20, "min": 1, "max": 10000}),
                "cfg": ("FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01}),
                "sampler_name": (list(SAMPLERS),),
                "scheduler": (list(SCHEDULES),),
                "positive": ("CONDITIONING",),
                "negative": ("CONDITIONING",),
                "latent_image": ("LATENT",),
                "denoise": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
            }
        }

    def run(self, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise=1.0):
        network, raw = _network_of(model), _samples_of(latent_image)
        if denoise <= 0:
            return (latent_image,)
        device = network.conv_in.weight.device
        levels = levels_of(scheduler, steps, network.shift, denoise).tolist()
        noise = torch.randn(raw.shape, generator=torch.Generator().manual_seed(seed), device="cpu")
        start = network.latents.to_model(raw.float().to(device)) if raw.any() else raw.float().to(device)
        noisy = levels[0] * noise.to(device) + (1 - levels[0]) * start
        velocity = _guided(network, _entries_of(positive, device), _entries_of(negative, device), cfg)
        with torch.inference_mode():
            found = SAMPLERS[sampler_name](velocity, noisy.to(network.dtype), levels, host.progress(len(levels) - 1))
        return ({**latent_image, "samples": network.latents.to_raw(found.float()).cpu()},)


def _network_of(model: object) -> Denoiser:
    if not isinstance(model, StandaloneModel):
        raise ValueError(f"a MODEL of Load Diffusion Model (CVL) was expected, and this is {type(model).__name__}")
    return model.network


def _samples_of(latent: object) -> Tensor:
    if not isinstance(latent, dict) or not isinstance(latent.get("samples"), Tensor):
        raise ValueError(f"a LATENT was expected, and this is {type(latent).__name__}: connect an empty latent")
    if "noise_mask" in latent:
        raise ValueError(
            "a latent with a mask was given, which is sampled in ComfyUI only: leave the mask out, or run there"
        )
    return latent["samples"]


def _entries_of(conditioning: object, device: torch.device) -> list[tuple[Tensor, float]]:
    """The text states of a conditioning's parts, and how much each counts."""
    entries = []
    for states, facts in conditioning if isinstance(conditioning, list) else []:
        if more := set(facts) - _KNOWN:
            raise ValueError(
                f"this conditioning has {', '.join(sorted(more))}, which only ComfyUI's sampler knows: run it there, "
                "or leave that node out"
            )
        entries.append((states.to(device=device, dtype=torch.float32), float(facts.get("strength", 1.0))))
    if not entries:
        raise ValueError("a CONDITIONING with a prompt was expected, but this one is empty: connect a text encode node")
    return entries


def _guided(network: Denoiser, positive: list, negative: list, guidance: float) -> Velocity:
    """As ComfyUI: negative + guidance * (positive - negative), each the mean of its parts; at 1 the positive alone."""
    if len(positive) == len(negative) == 1:
        return guided(network, positive[0][0].to(network.dtype), negative[0][0].to(network.dtype), guidance)
    with_text, without = _mean_of(network, positive), _mean_of(network, negative)

    def velocity(noisy: Tensor, level: float) -> Tensor:
        told = with_text(noisy, level)
        return told if guidance == 1 else without(noisy, level).lerp(told, guidance)

    return velocity


def _mean_of(network: Denoiser, entries: Sequence[tuple[Tensor, float]]) -> Velocity:
    def velocity(noisy: Tensor, level: float) -> Tensor:
        levels = torch.full((len(noisy),), level, device=noisy.device, dtype=torch.float32)
        parts = [strength * network(noisy, levels, _repeated(text, noisy)) for text, strength in entries]
        return torch.stack(parts).sum(dim=0) / sum(strength for _, strength in entries)

    return velocity


def _repeated(text: Tensor, noisy: Tensor) -> Tensor:
    return text.to(noisy.dtype).expand(len(noisy), -1, -1)


SAMPLING_NODES = (EmptyLatentImage, CLIPTextEncode, KSampler)
