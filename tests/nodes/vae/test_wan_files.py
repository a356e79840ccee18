"""A file of Wan's VAE in the nodes, without ComfyUI: loaded, a video there and back, an odd size, tiles."""

import json

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.vae_core.networks.wan import AutoencoderWan
from clip_vae_lora.vae_core.networks.wan_config import WanConfig
from clip_vae_lora.vae_core.tiling import plans

CONFIG = WanConfig(4, (4, 8, 8, 8), (4, 8, 8, 8), 1, 4)
ROUNDING = 1e-5


@pytest.fixture
def network():
    torch.manual_seed(0)
    return AutoencoderWan(CONFIG).eval().requires_grad_(False)


@pytest.fixture
def vae(place, network):
    write_tensors(place.models / "vae" / "wan.safetensors", network.state_dict(), {})
    shown = place.node("CVL_LoadVAE").load("wan.safetensors")
    assert "wan.safetensors: Wan video autoencoder" in shown["ui"]["text"][0]
    report = json.loads(shown["result"][1])
    assert (report["kind"], report["latent_channels"], report["px_per_cell"]) == ("wan", 4, 8)
    return shown["result"][0]


@pytest.mark.parametrize("frames, kept", [(1, 1), (5, 5), (7, 5)])
def test_a_batch_is_the_frames_of_one_video(place, vae, network, frames, kept):
    images = torch.rand(frames, 32, 48, 3, generator=torch.Generator().manual_seed(1))
    latent = place.node("CVL_VAEEncode").encode(images, vae)["result"][0]
    video = (images[:kept] * 2 - 1).movedim(-1, 0)[None]  # [1, 3, T, H, W]
    torch.testing.assert_close(latent["samples"], network.encode(video), rtol=0, atol=ROUNDING)
    shown = place.node("CVL_VAEDecode").decode(latent, vae)["result"][0]
    wanted = network.decode(latent["samples"])[0].movedim(0, -1).add(1).div(2).clamp(0, 1)
    torch.testing.assert_close(shown, wanted, rtol=0, atol=ROUNDING)


def test_an_odd_size_comes_back(place, vae):
    images = torch.rand(5, 37, 42, 3, generator=torch.Generator().manual_seed(1))
    latent = place.node("CVL_VAEEncode").encode(images, vae)["result"][0]
    assert latent["samples"].shape == (1, 4, 2, 5, 6)
    assert place.node("CVL_VAEDecode").decode(latent, vae)["result"][0].shape == images.shape


def test_under_a_budget_it_is_done_in_tiles(place, vae, monkeypatch):
    monkeypatch.setattr(plans, "LIBRARY_BYTES", 0)
    latent = {"samples": torch.randn(1, 4, 2, 60, 70, generator=torch.Generator().manual_seed(1))}
    whole = place.node("CVL_VAEDecode").decode(latent, vae, "off")["result"][0]
    by_tiles, report = place.node("CVL_VAEDecode").decode(latent, vae, "budget", 64)["result"]
    assert "tiles of" in json.loads(report)["plan"]
    torch.testing.assert_close(by_tiles, whole, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 16, 1, 8, 8)])
def test_the_latent_of_another_model_is_refused_in_words(place, vae, shape):
    with pytest.raises(ValueError, match="this VAE wants"):
        place.node("CVL_VAEDecode").decode({"samples": torch.zeros(shape)}, vae)


def test_a_sample_is_drawn_from_the_distribution(place, vae):
    images = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    node = place.node("CVL_VAEEncode")
    drawn = [node.encode(images, vae, "sample", seed=seed)["result"][0]["samples"] for seed in (7, 7, 8)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
