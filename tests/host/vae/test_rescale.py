"""Rescale VAE for fp16 inside a real ComfyUI: what stock nodes make of its file, and of a VAE that overflows."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from ...support.vaes.pictures import PICTURES
from ...support.vaes.stock import stock_vae

AS_BEFORE = 1e-5  # of numbers in 0..1, in fp32
SD = PICTURES[0]  # AutoencoderKL


def _picture() -> torch.Tensor:
    return torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))


def test_the_stock_network_takes_the_file_and_gives_the_same_pictures_and_numbers_in_fp16(comfyui):
    vae = stock_vae(SD)
    with torch.no_grad():
        for name, tensor in vae.first_stage_model.named_parameters():
            if name.startswith("decoder.conv_in"):
                tensor.mul_(3e5)
    with torch.inference_mode():
        given = {"filename_prefix": "vae/fp16", "image": _picture()}
        made, path, report = comfyui.nodes["CVL_RescaleVAE"]().rescale(vae, **given)["result"]
    report = json.loads(report)
    assert report["largest_before"] > 65504 > report["largest_after"] and report["outputs_moved"] <= AS_BEFORE
    assert report["fp16_off_before"] is None and report["fp16_off_after"] < 0.1
    read = stock_vae(SD)
    read.first_stage_model.load_state_dict(load_file(Path(path)), strict=True)  # stock names
    encode, decode = comfyui.nodes["VAEEncode"](), comfyui.nodes["VAEDecode"]()
    with torch.inference_mode():
        latents = [encode.encode(vae=one, pixels=_picture())[0] for one in (vae, read, made)]
        pictures = [decode.decode(vae=one, samples=latents[0])[0] for one in (vae, read, made)]
    for found in (latents[1]["samples"], latents[2]["samples"]):
        torch.testing.assert_close(found, latents[0]["samples"], rtol=0, atol=AS_BEFORE * 10)  # of some deviations
    for found in pictures[1:]:
        torch.testing.assert_close(found, pictures[0], rtol=0, atol=AS_BEFORE)


def test_a_vae_that_fits_is_passed_on(comfyui):
    vae = stock_vae(SD)
    with torch.inference_mode():
        made, path, _ = comfyui.nodes["CVL_RescaleVAE"]().rescale(vae, "vae/fp16", _picture())["result"]
    assert made is vae and path == ""


def test_the_examples_vae_runs_on_the_server_as_here(comfyui):
    vae, _ = comfyui.nodes["CVL_LoadVAE"]().load("bundled/tiny_vae.safetensors", "auto")["result"]
    answer = comfyui.nodes["CVL_RescaleVAE"]().rescale(vae, "vae/fp16")
    assert "nothing is too large" in answer["ui"]["text"][0] and answer["result"][0] is vae
