"""The Doctor's verdicts beside what happens: tiny models of four families sample, with every VAE and prompts of many
widths. What stops was named before, and what was called a misfit of shapes stops or gives another picture.
"""

import json
from functools import cache

import pytest
import torch

from clip_vae_lora.tests.support.models import sd15_model
from clip_vae_lora.tests.support.vaes.pictures import PICTURES
from clip_vae_lora.tests.support.vaes.stock import stock_vae
from clip_vae_lora.tests.support.vaes.videos import VIDEOS

TEXT = {"SD 1": (64, 0), "SDXL": (2048, 1280), "Flux.1": (4096, 768), "Wan": (4096, 0)}  # numbers a token, pooled
WIDTHS, POOLED = (64, 768, 1024, 2048, 4096), (0, 768, 1280)
CPU = torch.device("cpu")


def _sdxl():
    import comfy.supported_models

    sizes = {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1, 1],
        "channel_mult": (1, 2, 4), "transformer_depth": [0, 1, 1], "transformer_depth_output": [0, 0, 1, 1, 1, 1],
        "transformer_depth_middle": 1, "num_heads": -1, "num_head_channels": 32, "context_dim": 2048,
        "use_spatial_transformer": True, "legacy": False, "use_linear_in_transformer": True,
        "use_temporal_attention": False, "num_classes": "sequential", "adm_in_channels": 2816, "dtype": torch.float32,
    }  # fmt: skip
    return comfy.supported_models.SDXL(sizes)


def _ids():
    from comfy.ldm.flux.model import FluxParams

    return {"txt_ids_dims": []} if "txt_ids_dims" in FluxParams.__annotations__ else {}  # 0.3.64 has none


def _flux():
    import comfy.supported_models

    sizes = {
        "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 768,
        "context_in_dim": 4096, "hidden_size": 64, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1,
        "depth_single_blocks": 1, "axes_dim": [4, 14, 14], "theta": 10000, "qkv_bias": True, "guidance_embed": False,
        "dtype": torch.float32,
    }  # fmt: skip
    return comfy.supported_models.Flux(sizes | _ids())


def _wan():
    import comfy.supported_models

    sizes = {
        "image_model": "wan2.1", "model_type": "t2v", "dim": 64, "out_dim": 16, "in_dim": 16, "num_heads": 2,
        "ffn_dim": 64, "num_layers": 1, "patch_size": (1, 2, 2), "freq_dim": 256, "window_size": (-1, -1),
        "qk_norm": True, "cross_attn_norm": True, "eps": 1e-6, "dtype": torch.float32,
    }  # fmt: skip
    return comfy.supported_models.WAN21_T2V(sizes)


@cache
def model(name: str):
    import comfy.model_patcher

    if name == "SD 1":
        return sd15_model(context_dim=64)
    found = {"SDXL": _sdxl, "Flux.1": _flux, "Wan": _wan}[name]().get_model({}, "", device="cpu")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return comfy.model_patcher.ModelPatcher(found.float(), CPU, CPU)


def prompt(width: int, pooled: int):
    generator = torch.Generator().manual_seed(1)
    more = {"pooled_output": torch.randn(1, pooled, generator=generator) if pooled else None}  # as stock encoders do
    return [[torch.randn(1, 77, width, generator=generator), more]]


def sampled(comfyui, name, latent, text):
    """The latent after one step of a sampler, or why there is none."""
    sample = comfyui.nodes["KSampler"]().sample
    return tried(
        lambda: sample(model(name), 3, 1, 1.0, "euler", "simple", text, text, latent, denoise=0.5)[0]["samples"]
    )


def tried(work):
    """What comes of some work, or why nothing does."""
    try:
        return work(), ""
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        return None, f"{type(error).__name__}: {error}"


def misfits(comfyui, **connected):
    report = json.loads(comfyui.nodes["CVL_Doctor"]().examine(**connected)["result"][0])
    return [found["problem"] for found in report["misfits"]]


@pytest.mark.parametrize("name", list(TEXT))
@pytest.mark.parametrize("family", [*PICTURES, *VIDEOS], ids=lambda family: family.name)
def test_what_a_sampler_stops_at_was_named_and_what_fits_comes_back_as_a_picture(comfyui, name, family):
    if family.network is None or not (family.encodes and family.decodes):
        pytest.skip("it does not make a latent and a picture of it")
    vae = stock_vae(family)
    pixels = torch.rand(family.frames if family.makes == "videos" else 1, family.px, family.px, family.image_channels)
    with torch.inference_mode():
        latent = {"samples": vae.encode(pixels)}
        named = misfits(comfyui, model=model(name), vae=vae)
        found, why = sampled(comfyui, name, latent, prompt(*TEXT[name]))
        if found is None:
            assert named and misfits(comfyui, model=model(name), latent=latent), (why, named)
            return
        picture, why = tried(lambda: vae.decode(found))
    assert named or picture is not None, why
    if not named:
        assert picture.shape[-3:-1] == pixels.shape[-3:-1] and picture.isfinite().all()
        assert not misfits(comfyui, model=model(name), latent=latent, vae=vae, positive=prompt(*TEXT[name]))


@pytest.mark.parametrize("name", list(TEXT))
@pytest.mark.parametrize("pooled", POOLED)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_prompt_is_a_misfit_where_a_sampler_stops_at_it(comfyui, name, width, pooled):
    channels = 4 if name in ("SD 1", "SDXL") else 16
    latent = {"samples": torch.zeros(1, channels, *([1] if name == "Wan" else []), 8, 8)}
    text = prompt(width, pooled)
    with torch.inference_mode():
        named = misfits(comfyui, model=model(name), positive=text)
        found, why = sampled(comfyui, name, latent, text)
    cut = name == "Flux.1" and pooled > TEXT[name][1]  # it takes the first numbers of a pooled text that is not its own
    assert bool(named) == (found is None or cut), (named, why)
