"""Train LoRA with its text encoder, on the bundled CLIP: the file read back has the effect of what the node gives."""

import json
import shutil

import pytest
import torch

from clip_vae_lora.files.images import write_png
from clip_vae_lora.nodes.host import host

from ...support.diffusion import small_diffusion


@pytest.fixture
def parts(place):
    """A small MODEL, the bundled CLIP and VAE, and four captioned pictures in the input folder."""
    folder, generator = place.base / "input" / "captioned", torch.Generator().manual_seed(0)
    folder.mkdir(parents=True)
    for number in range(4):
        write_png(folder / f"p{number}.png", torch.rand(64, 64, 3, generator=generator), {})
        (folder / f"p{number}.txt").write_text(f"picture {number}")
    clip = place.node("CVL_LoadTextEncoder").load("bundled/tiny_clip.safetensors")["result"][0]
    vae = place.node("CVL_LoadVAE").load("bundled/tiny_vae.safetensors")["result"][0]
    return host.make_model(small_diffusion.CONFIG, small_diffusion.state(), "fp32"), clip, vae


def _train(place, parts, **more) -> dict:
    numbers = {"steps": 3, "rank": 4, "learning_rate": 1e-2, "resolution": 64, "trigger": "sks", "seed": 1, "batch": 2}
    given = numbers | {"folder": "input", "subfolder": "captioned", "filename_prefix": "loras/both"} | more
    return place.node("CVL_TrainLoRA").train(*parts, **given)


def _said(place, clip) -> torch.Tensor:
    return place.node("CVL_TextEncode").encode(clip, "sks, picture 2")["result"][0][0][0]


def _guess(model, clip, place) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        return model.network(torch.randn(1, 4, 8, 8, generator=generator), torch.tensor([0.5]), _said(place, clip))


def test_the_file_read_back_is_what_the_node_gives(place, parts):
    answer = _train(place, parts, text_encoder_rate=0.5, sample_prompt="sks")
    model, path, report, clip = answer["result"]
    data = json.loads(report)
    assert data["layers_of_text_encoder"] > 0
    assert f"{data['layers_of_text_encoder']} layers of the text encoder learned, too" in answer["ui"]["text"][0]
    shutil.copy(path, place.models / "loras" / "both.safetensors")
    read = place.node("CVL_LoadLoRA").load("both.safetensors", 1.0, 1.0, parts[0], parts[1])["result"]
    before, ours, theirs = (_said(place, one) for one in (parts[1], clip, read[1]))
    assert (ours - before).norm() > 1e-4 * before.norm()
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()  # float32
    ours, theirs = _guess(model, clip, place), _guess(read[0], read[1], place)
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


def test_without_a_rate_the_clip_comes_out_as_it_came(place, parts):
    answer = _train(place, parts)
    assert answer["result"][3] is parts[1] and json.loads(answer["result"][2])["layers_of_text_encoder"] == 0


def test_encoded_prompts_are_refused_where_the_text_encoder_is_to_learn(place, parts):
    latent = [{"samples": torch.zeros(1, 4, 8, 8)}]
    prompt = [place.node("CVL_TextEncode").encode(parts[1], "a")["result"][0]]
    with pytest.raises(ValueError, match="cannot learn from prompts that are encoded already"):
        _train(place, parts, text_encoder_rate=1.0, latent=latent, positive=prompt)
