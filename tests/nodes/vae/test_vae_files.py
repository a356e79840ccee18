"""VAE files of odd layouts: read right and used right, or one sentence."""

import json

import pytest
import torch

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL


def state(image_channels=3):
    torch.manual_seed(0)
    network = AutoencoderKL(VAEConfig(32, (1, 2), blocks=1, latent=4, quant=True, image_channels=image_channels))
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.fixture
def load(place):
    def loaded(tensors):
        write_tensors(place.models / "vae" / "odd.safetensors", tensors, {})
        return place.node("CVL_LoadVAE").load("odd.safetensors", dtype="fp32")["result"][0]

    return loaded


def picture(channels=3):
    return torch.rand(1, 21, 31, channels, generator=torch.Generator().manual_seed(0))


def run(place, name, function, *inputs):
    result = getattr(place.node(name), function)(*inputs)["result"]
    return result[0], json.loads(result[-1])


def test_a_vae_with_alpha_takes_it_gives_it_back_and_takes_rgb_as_opaque(place, load):
    vae = load(state(4))
    latent, report = run(place, "CVL_VAEEncode", "encode", picture(4), vae)
    assert "the alpha channel is not encoded" not in report["notes"]
    image, _ = run(place, "CVL_VAEDecode", "decode", latent, vae)
    assert image.shape == (1, 21, 31, 4)
    plain, report = run(place, "CVL_VAEEncode", "encode", picture(4)[..., :3], vae)
    opaque = torch.cat((picture(4)[..., :3], torch.ones(1, 21, 31, 1)), -1)
    assert torch.equal(plain["samples"], run(place, "CVL_VAEEncode", "encode", opaque, vae)[0]["samples"])
    assert not torch.equal(plain["samples"], latent["samples"])
    assert any("encoded as opaque" in note for note in report["notes"])
    mask = torch.zeros(1, 21, 31)
    mask[:, 4:9, 5:20] = 1
    assert run(place, "CVL_VAEEncodeInpaint", "encode", picture(4), vae, mask)[0]["samples"].shape[2:] == (11, 16)


def test_a_vae_for_grey_takes_the_mean_of_colours_and_gives_three_equal_ones(place, load):
    vae = load(state(1))
    latent, report = run(place, "CVL_VAEEncode", "encode", picture(), vae)
    grey = picture().mean(-1, keepdim=True).expand(-1, -1, -1, 3)
    again = run(place, "CVL_VAEEncode", "encode", grey, vae)[0]
    torch.testing.assert_close(latent["samples"], again["samples"], rtol=0, atol=1e-5)  # a mean of equal numbers rounds
    assert any("grey only" in note for note in report["notes"])
    image, _ = run(place, "CVL_VAEDecode", "decode", latent, vae)
    assert image.shape == (1, 21, 31, 3) and torch.equal(image[..., 0], image[..., 2])


def bare(half):
    return {name.removeprefix(f"{half}."): tensor for name, tensor in state().items() if name.startswith(f"{half}.")}


def quantised(name, tensor):
    return {**state(), name: tensor}


WEIGHT = "decoder.conv_in.weight"
BAD = {
    "a decoder alone, bare": (lambda: bare("decoder"), "the decoder of a VAE alone"),
    "an encoder alone, bare": (lambda: bare("encoder"), "the encoder of a VAE alone"),
    "two image channels": (lambda: state(2), "pictures of 2 channels"),
    "int8": (lambda: quantised(WEIGHT, torch.ones(64, 4, 3, 3, dtype=torch.int8)), "quantised.*is int8"),
    "scales": (lambda: quantised("decoder.conv_in.scale_weight", torch.ones(())), "quantised.*scale_weight"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_would_be_read_wrong_is_one_sentence(load, kind):
    tensors, sentence = BAD[kind]
    with pytest.raises(FileFormatError, match=sentence):
        load(tensors())


def test_other_norm_groups_that_a_config_tells_are_refused_and_the_usual_ones_are_not(place, load):
    beside = place.models / "vae" / "config.json"
    beside.write_text(json.dumps({"norm_num_groups": 32}))
    load(state())
    beside.write_text(json.dumps({"norm_num_groups": 16}))
    with pytest.raises(FileFormatError, match="config.json beside it tells 16"):
        load(state())
