"""A VAE family of this test's own, by one row: its prior, its cells, and its tiny autoencoder by name."""

import json

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.vae_core.checkpoint.find import LayoutError, family_in_name, find_vae
from clip_vae_lora.vae_core.config import FAMILIES, Family
from clip_vae_lora.vae_core.networks.tiny import TinyAutoencoder, TinyConfig

from ...support.model_space import to_model_space


@pytest.fixture
def nova(monkeypatch):
    family = Family("Nova", 4, (0.5,), (0.25,), px_per_cell=16, tiny="taenova")
    monkeypatch.setitem(FAMILIES, "nova", family)
    return family


def tiny_tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    tensors = TinyAutoencoder(TinyConfig(4)).state_dict()
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("vae_")}


def test_sample_prior_offers_it_and_draws_its_latents_in_its_cells(nova, place):
    node = place.node("CVL_SamplePrior")
    assert node.INPUT_TYPES()["required"]["family"][0][-2:] == ["nova", "standard normal"]
    latent, report = node.draw(128, 64, 1, 7, "nova")["result"]
    assert latent["samples"].shape == (1, 4, 4, 8) and json.loads(report)["px_per_cell"] == 16
    noise = node.draw(64, 32, 1, 7, "sd1")["result"][0]["samples"]  # 8 px a cell: as many cells
    expected = to_model_space(noise, "sd1")
    torch.testing.assert_close(to_model_space(latent["samples"], "nova"), expected, rtol=0, atol=1e-6)


def test_its_tiny_autoencoder_is_known_by_its_file_and_offered_by_name(nova, place):
    assert family_in_name("TAENOVA_decoder.safetensors") == "nova" and family_in_name("taenova2.pth") is None
    write_tensors(place.models / "vae_approx" / "taenova.safetensors", tiny_tensors(), {})
    node = place.node("CVL_LoadVAE")
    menu, options = node.INPUT_TYPES()["optional"]["family"]
    assert menu == ["auto", "sd1", "sdxl", "sd3", "flux", "nova"]
    assert "(taesd, taesdxl, taesd3, taef1, taenova)" in options["tooltip"]
    for chosen in ("auto", "nova"):
        vae = node.load("vae_approx/taenova.safetensors", dtype="fp32", family=chosen)["result"][0]
        assert (vae.network.config.scale, vae.network.config.shift) == (0.5, 0.25)


def test_a_tiny_autoencoder_that_nobody_named_may_be_its_own(nova):
    with pytest.raises(LayoutError, match="name the family, sd1 or sdxl or nova"):
        find_vae({name: tuple(tensor.shape) for name, tensor in tiny_tensors().items()})


def test_a_family_whose_tiny_autoencoder_is_deep_is_told_by_the_channels(monkeypatch):
    monkeypatch.setitem(FAMILIES, "deep", Family("Deep", 16, (2.0,), tiny="taedeep", tiny_is_deep=True))
    for latent, scale in ((16, 2.0), (32, FAMILIES["sana"].scale[0])):
        state = TinyAutoencoder(TinyConfig(latent, deep=True), device="meta").state_dict()
        source = find_vae({name: tuple(t.shape) for name, t in state.items() if not name.startswith("vae_")})
        assert source.config == TinyConfig(latent, deep=True, scale=scale)
