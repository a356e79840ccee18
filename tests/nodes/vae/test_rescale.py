"""The node that makes a VAE fit for fp16: the file, what it says, and what it refuses."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS as NODES
from clip_vae_lora.nodes.host import host
from clip_vae_lora.nodes.host.alone.vae import make_vae
from clip_vae_lora.nodes.vae.load import load_vae
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL
from clip_vae_lora.vae_core.networks.wan import AutoencoderWan
from clip_vae_lora.vae_core.networks.wan_config import WanConfig
from clip_vae_lora.vae_core.rescaling import probe
from clip_vae_lora.vae_core.tiling.work import Tiling

CONFIG = VAEConfig(32, (1, 1), 1, 4, True)


@pytest.fixture(autouse=True)
def place(tmp_path: Path):
    host.set_place(models=None, temp=tmp_path / "temp", output=tmp_path / "out", inputs=[], on_step=lambda *_: None)
    yield tmp_path
    host.set_place(models=None, temp=tmp_path / "temp", on_step=lambda *_: None)


def vae_of(times=1.0, part="decoder.conv_in", dtype=torch.float32, **half):
    torch.manual_seed(0)
    net = AutoencoderKL(CONFIG, **half)
    for name, tensor in net.named_parameters():
        if name.startswith(part):
            tensor.data.mul_(times)
    state = {name: tensor.detach().to(dtype) for name, tensor in net.state_dict().items()}
    return make_vae(partial(AutoencoderKL, CONFIG, **half), state, "fp32"), state


def rescale(vae, image=None):
    with torch.inference_mode():
        answer = NODES["CVL_RescaleVAE"]().rescale(vae, "vae/fp16", image)
    made, path, report = answer["result"]
    return made, path, json.loads(report), answer["ui"]["text"][0]


def picture(side=32):
    return torch.rand(1, side, side, 3, generator=torch.Generator().manual_seed(3))


def decoded(vae):
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return host.decode_latent(vae, latent, Tiling()).result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_the_file_decodes_as_the_vae_that_came_and_runs_in_fp16(dtype, place):
    vae, state = vae_of(2e5 if dtype == torch.float16 else 1e6, dtype=dtype)
    made, path, report, text = rescale(vae, picture())
    assert report["largest_before"] > 65504 >= 2 * report["largest_after"] and report["outputs_moved"] <= 1e-5
    assert report["fp16_off_before"] is None and report["fp16_off_after"] < 0.05
    assert "NaN or infinity" in text and "are the same" in text and Path(path).parent == place / "out" / "vae"
    found = load_file(path)
    assert {tensor.dtype for tensor in found.values()} == {dtype} and found.keys() == state.keys()
    for one in (made, load_vae(Path(path), "fp32", None)[0]):
        torch.testing.assert_close(decoded(one), decoded(vae), rtol=0, atol=1e-5)  # of pixels in 0..1


def test_without_pictures_the_examples_measure(monkeypatch):
    monkeypatch.setattr(probe, "_MOST_PX", 32)
    _, _, report, _ = rescale(vae_of(1e6)[0])
    assert report["pictures"] == 4 and report["largest_after"] < 65504


def test_a_vae_that_fits_is_passed_on_and_nothing_is_written(place):
    vae, _ = vae_of()
    made, path, report, text = rescale(vae, picture())
    assert made is vae and path == "" and not (place / "out").exists()
    assert "nothing is too large" in text and report["largest_before"] == report["largest_after"]


def test_a_large_number_beside_small_ones_is_said_in_red():
    text = rescale(vae_of(3e6, "encoder.mid.block_2.conv2")[0], picture())[3]
    assert "⚠ latents and pictures moved by" in text


def test_other_kinds_and_sizes_have_a_sentence():
    wan = WanConfig(4, (4, 6), (4, 8), 2, 3, (True,))
    video = make_vae(partial(AutoencoderWan, wan), AutoencoderWan(wan).state_dict(), "fp32")
    with pytest.raises(ValueError, match="SD, SDXL, SD3 or Flux was expected"):
        rescale(video, picture())
    with pytest.raises(ValueError, match="load the full VAE"):
        rescale(vae_of(encoder=False)[0], picture())
    with pytest.raises(ValueError, match="of 2 px or more were expected"):
        rescale(vae_of(1e6)[0], picture(1))
