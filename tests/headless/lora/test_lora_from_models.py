"""`cvl lora resize` and `cvl lora extract`: file to file, with the sentences of what cannot be."""

import json

import pytest
import torch
from safetensors.torch import save_file

from clip_vae_lora.headless.cvl import main

_BLOCK = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0."
QUERY, KEY = f"{_BLOCK}attn1.to_q.weight", f"{_BLOCK}attn2.to_k.weight"


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def models(tmp_path):
    base = {QUERY: (random(320, 320) * 0.03).half(), KEY: (random(320, 768, seed=1) * 0.03).half()}
    tuned = {
        name: (own.float() + random(320, 4, seed=2) @ random(4, own.shape[1], seed=3) * 0.02).half()
        for name, own in base.items()
    }
    save_file(base, tmp_path / "base.safetensors")
    save_file(tuned, tmp_path / "tuned.safetensors")
    return tmp_path / "tuned.safetensors", tmp_path / "base.safetensors"


def run(capsys, *arguments):
    code = main(["lora", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_two_checkpoints_become_a_lora_and_that_a_smaller_one(models, tmp_path, capsys):
    code, data = run(capsys, "extract", *models, "-o", tmp_path / "x.safetensors")
    assert code == 0 and data["ranks"] == [4, 4] and data["error"] < 0.01
    code, data = run(capsys, "resize", tmp_path / "x.safetensors", "-o", tmp_path / "y.safetensors", "--amount", 2)
    assert code == 0 and data["ranks"] == [2, 2] and 0 < data["error"] < 1 and data["error_of_base"] is None
    size = ("--keep", "size", "--amount", 0.01, "--base", models[1])
    code, data = run(capsys, "resize", tmp_path / "x.safetensors", "-o", tmp_path / "z.safetensors", *size)
    assert code == 0 and data["size_bytes"] <= 10_000 and 0 < data["error_of_base"] < 1


@pytest.mark.parametrize(
    "command, sentence",
    [
        (("extract", "base", "base"), "the two models are equal"),
        (("extract", "tuned", "gone"), "there is no file"),
        (("extract", "tuned", "base", "--keep", "rank", "--amount", "0"), "the rank is 0"),
        (("extract", "tuned", "base", "--most", "0"), "the largest rank is 0"),
        (("resize", "base"), "no LoRA tensors here"),
        (("resize", "gone"), "there is no file"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(models, tmp_path, capsys, command, sentence):
    name, *rest = command
    files = [tmp_path / f"{one}.safetensors" if one in ("base", "tuned", "gone") else one for one in rest]
    code, data = run(capsys, name, *files, "-o", tmp_path / "x.safetensors")
    assert code == 2 and sentence in data["error"] and not (tmp_path / "x.safetensors").exists()


def test_neither_model_is_written_over(models, tmp_path, capsys):
    code, data = run(capsys, "extract", *models, "-o", models[0], "--overwrite")
    assert code == 2 and "it is one of the files that this is made of" in data["error"]
