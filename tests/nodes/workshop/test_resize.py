"""Resize LoRA on the standalone host: every rule, what the header keeps, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.nodes.lora.files import read_lora
from clip_vae_lora.nodes.workshop.resize import ResizeLoRA

FIRST, SECOND = (f"lora_te_text_model_encoder_layers_{n}_self_attn_q_proj" for n in (0, 1))


@pytest.fixture
def resize(place):
    draw = torch.Generator().manual_seed(1)
    tensors = {}
    for name in (FIRST, SECOND):
        tensors[f"{name}.lora_up.weight"] = torch.randn(768, 8, generator=draw)
        tensors[f"{name}.lora_down.weight"] = torch.randn(8, 768, generator=draw) * torch.logspace(0, -2, 8)[:, None]
        tensors[f"{name}.alpha"] = torch.tensor(4.0)
    metadata = {"modelspec.trigger_phrase": "striped", "ss_output_name": "stripes", "sshs_model_hash": "old"}
    write_tensors(place.models / "loras" / "l.safetensors", tensors, metadata)

    def run(keep="rank", amount=3.0, file="l.safetensors", **more):
        options = {"dialect": "as it is", "dtype": "as the files", "filename_prefix": "x"} | more
        answer = ResizeLoRA().resize(file, keep, amount, **options)
        return answer, json.loads(answer["ui"]["cvl_report"][0])

    return run


def test_a_file_is_cut_and_its_header_kept_and_extended(place, resize):
    answer, report = resize()
    path, said, picture = answer["result"]
    assert json.loads(said) == report and report["ranks"] == [3, 3] and report["ranks_before"] == [8, 8]
    assert picture.shape[0] == 1 and answer["ui"]["images"] and report["trigger_words"] == ["striped"]
    before, after = read_lora(place.models / "loras" / "l.safetensors").file, read_lora(Path(path)).file
    for name, adapter in before.adapters.items():
        change = adapter.delta((768, 768)).double()
        values = torch.linalg.svdvals(change)
        error = (after.adapters[name].delta((768, 768)).double() - change).norm().item()
        assert error == pytest.approx(values[3:].norm().item(), rel=1e-4)
        assert after.adapters[name].alpha == after.adapters[name].rank == 3
    with safe_open(path, "pt") as file:
        header = file.metadata()
    assert header["modelspec.trigger_phrase"] == "striped" and header["ss_output_name"] == "stripes"
    assert "sshs_model_hash" not in header and header["ss_network_dim"] == "3"
    assert json.loads(header["cvl_resize"]) == {"from": "l.safetensors", "keep": "rank", "amount": 3.0}


@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft", "onetrainer"])
def test_every_dialect_can_be_written(resize, dialect):
    answer, report = resize(dialect=dialect)
    assert report["dialect"] == dialect and len(read_lora(Path(answer["result"][0])).file.adapters) == 2


@pytest.mark.parametrize("keep, amount", [("energy", 0.9), ("frobenius", 0.9), ("sum", 0.8), ("ratio", 4.0)])
def test_every_rule_cuts(resize, keep, amount):
    _, report = resize(keep, amount)
    assert 0 < report["ranks"][1] < 8 and 0 < report["error"] < 0.7


def test_automatic_keeps_what_is_not_rounding_and_a_bound_holds(resize):
    assert resize("automatic")[1]["ranks"] == [8, 8]
    assert resize("automatic", largest_rank=2)[1]["ranks"] == [2, 2]


def test_a_file_size_is_hit(resize):
    _, report = resize("size", 0.04)
    assert 0.99 * 40_000 - 6300 <= report["size_bytes"] <= 40_000  # 6300: the rank of a layer of this tiny file
    _, report = resize("size", 100.0)
    assert report["error"] < 1e-6 and report["ranks"] == [8, 8]


def test_the_bundled_file_is_resized(resize):
    _, report = resize(amount=1.0, file="bundled/tiny_clip_stripes_lora.safetensors")
    assert report["ranks"] == [1, 1] and report["error"] < 1


@pytest.mark.parametrize(
    "keep, amount, more, sentence",
    [
        ("rank", 0.0, {}, "the rank is 0: expected a whole number of at least 1"),
        ("rank", 2.5, {}, "the rank is 2.5: expected a whole number"),
        ("energy", 16.0, {}, "the share to keep is 16: expected more than 0 and at most 1"),
        ("size", 0.001, {}, "a file of 0.001 MB is too small: with rank 1 in every layer it has 0.0"),
        ("knee", 1.0, {}, "the rule is 'knee'"),
        ("rank", 1.0, {"largest_rank": -1}, "the largest rank is -1"),
        ("rank", 1.0, {"dtype": "int8"}, "the type is 'int8'"),
        ("rank", 1.0, {"dialect": "a1111"}, "the dialect is 'a1111'"),
        ("rank", 1.0, {"file": "gone.safetensors"}, 'there is no "gone.safetensors"'),
    ],
)
def test_what_cannot_be_done_stands_on_the_node_and_nothing_is_written(place, resize, keep, amount, more, sentence):
    answer, report = resize(keep, amount, **more)
    assert report["state"] == "failed" and sentence in report["problem"]
    output = place.base / "output"
    assert not output.exists() or not list(output.rglob("*.safetensors"))
