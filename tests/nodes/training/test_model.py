"""Load Diffusion Model: the bundled file, a file that a host saved, and files that hold no such model."""

import json

import pytest
import torch

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.nodes import catalog
from clip_vae_lora.nodes.model import LoadDiffusionModel, read_model

from ...support.diffusion import small_diffusion

BUNDLED = "bundled/tiny_diffusion.safetensors"


def test_the_bundled_model_is_read_and_told():
    answer = LoadDiffusionModel().load(BUNDLED, "fp32")
    model, report = answer["result"]
    told = json.loads(report)
    assert told["latent_channels"] == 4 and told["text_width"] == 64 and told["noise_shift"] == 2.0
    assert told["numbers"] == sum(tensor.numel() for tensor in model.network.state_dict().values())
    assert not told["ignored"] and "empty latent of 128" in answer["ui"]["text"][0]


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
def test_a_file_is_read_under_the_names_that_hosts_save_with(tmp_path, prefix):
    path, state = tmp_path / "saved.safetensors", small_diffusion.state()
    more = {"first_stage_model.decoder.conv_in.weight": torch.zeros(2, 2)} if prefix else {}
    write_tensors(path, {prefix + name: tensor for name, tensor in state.items()} | more, {})
    config, read, ignored = read_model(path)
    assert config == small_diffusion.CONFIG and ignored == list(more)
    assert read.keys() == state.keys() and all(torch.equal(read[name], state[name]) for name in state)


def _file(tmp_path, monkeypatch, state: dict) -> str:
    path = tmp_path / "some.safetensors"
    write_tensors(path, state, {})
    monkeypatch.setattr(catalog, "path", lambda use, choice: path)
    return "some.safetensors"


def test_another_model_is_refused_with_a_way_out(tmp_path, monkeypatch):
    name = _file(tmp_path, monkeypatch, {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4)})
    with pytest.raises(FileFormatError, match="no diffusion model of this pack.*ComfyUI's own loaders"):
        LoadDiffusionModel().load(name)


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_a_model_that_is_not_whole_is_refused(tmp_path, monkeypatch, change):
    state = small_diffusion.state()
    lost = next(name for name in state if "conv1" in name)
    if change == "missing":
        del state[lost]
    else:
        state[lost] = state[lost][:1].clone()
    with pytest.raises(FileFormatError, match="not whole.*get the file again"):
        LoadDiffusionModel().load(_file(tmp_path, monkeypatch, state))
