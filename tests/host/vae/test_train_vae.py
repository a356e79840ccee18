"""Train VAE inside a real ComfyUI: every family learns or is refused by a sentence, and stock nodes read the file."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ...support.vaes.pictures import PICTURES
from ...support.vaes.refused import SHAPES, SOUND
from ...support.vaes.stock import stock_vae
from ...support.vaes.videos import VIDEOS

AS_STOCK = 1e-5  # of numbers in 0..1: fp32, additions in another order


@pytest.fixture
def train(comfyui):
    """`train(vae, **more)`: the VAE, the path and the report of Train VAE, as ComfyUI runs a node."""

    def train(vae, **more):
        given = {
            "folder": "input", "subfolder": "", "steps": 1, "crop": 64, "learning_rate": 1e-4, "seed": 0,
            "filename_prefix": "vae/host", "image": _picture(), "batch": 1, **more,
        }  # fmt: skip
        with torch.inference_mode():
            vae, path, report = comfyui.nodes["CVL_TrainVAE"]().train(vae, **given)["result"]
        return vae, Path(path), json.loads(report)

    return train


def _picture(side: int = 64) -> torch.Tensor:
    return torch.rand(1, side, side, 3, generator=torch.Generator().manual_seed(1))


def _taesd() -> dict[str, torch.Tensor]:
    from comfy.taesd.taesd import TAESD

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TAESD(latent_channels=4)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.04)
    own = {name: tensor.detach().half().contiguous() for name, tensor in network.state_dict().items()}
    return own | {"vae_scale": torch.tensor(0.18215), "vae_shift": torch.tensor(0.0)}


def test_the_stock_loader_reads_the_file_and_stock_decode_gives_what_our_vae_gives(comfyui, train):
    save_file(_taesd(), comfyui.models / "vae" / "before.safetensors")
    (before,) = comfyui.nodes["VAELoader"]().load_vae("before.safetensors")
    ours, path, report = train(before, steps=2)
    (comfyui.models / "vae" / "after.safetensors").write_bytes(path.read_bytes())
    (after,) = comfyui.nodes["VAELoader"]().load_vae("after.safetensors")
    assert report["encoder"]["unchanged"] and report["latents"]["equal"]
    encode, decode = comfyui.nodes["VAEEncode"](), comfyui.nodes["VAEDecode"]()
    with torch.inference_mode():
        first, second = (encode.encode(vae=one, pixels=_picture())[0]["samples"] for one in (before, after))
        assert torch.equal(first, second)
        by_stock, by_ours, was = (
            decode.decode(vae=one, samples={"samples": first})[0] for one in (after, ours, before)
        )
    torch.testing.assert_close(by_ours, by_stock, rtol=0, atol=AS_STOCK)
    assert not torch.equal(by_stock, was)


def _known(families):
    return [one for one in families if one.image_channels == 3 and one.encodes and one.decodes and one.px <= 64]


@pytest.mark.parametrize("family", _known(PICTURES), ids=lambda one: one.name)
def test_a_stock_vae_of_each_family_learns_or_is_refused_by_a_sentence(comfyui, train, family):
    vae = stock_vae(family)
    came = {name: tensor.clone() for name, tensor in vae.first_stage_model.state_dict().items()}
    try:
        _, path, report = train(vae)
    except ValueError as error:
        said = str(error)
        assert "is of a kind that is not taken apart here" in said and "\n" not in said, said
        return
    now = vae.first_stage_model.state_dict()
    assert all(torch.equal(now[name], came[name]) for name in came)  # the VAE that was given stays as it is
    assert report["encoder"]["unchanged"] and report["latents"]["equal"]
    read = load_file(path)
    vae.first_stage_model.load_state_dict({name: read[name] for name in came}, strict=True)  # stock names


@pytest.mark.parametrize("family", [*VIDEOS[:2], *SOUND[:1], *SHAPES[:1]], ids=lambda one: one.name)
def test_a_vae_for_anything_but_pictures_is_refused_by_a_sentence(train, family):
    with pytest.raises(ValueError, match="taken apart here|VAE for pictures was expected") as error:
        train(stock_vae(family))
    assert "\n" not in str(error.value)


def test_our_vae_keeps_the_type_that_it_computes_in(comfyui, train):
    vae, _ = comfyui.nodes["CVL_LoadVAE"]().load("bundled/tiny_vae.safetensors", "fp32")["result"]
    made, path, report = train(vae, rank=4)
    assert made.vae_dtype == torch.float32 and report["encoder"]["unchanged"]
    latent = vae.encode(_picture())
    (read, _) = comfyui.nodes["CVL_LoadVAE"]().load("bundled/tiny_vae.safetensors", "fp32")["result"]
    read.first_stage_model.load_state_dict(load_file(path))
    assert torch.equal(made.decode(latent), read.decode(latent))
    assert torch.equal(made.encode(_picture()), latent) and not torch.equal(made.decode(latent), vae.decode(latent))
