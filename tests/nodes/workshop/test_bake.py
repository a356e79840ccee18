"""Bake LoRA on the standalone host: the checkpoint with the stack in it, and what it leaves as it is."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.files.tensors import TensorFile, open_tensors

from ...support.loras.shop import SD1, dense
from ...support.loras.shop_files import TENSORS, checkpoint, in_parts, source, written

OWN = {key: SD1[key] for key in TENSORS}  # of so small a part of a UNet its own names are known


@pytest.fixture
def run(shop):
    for number, name in enumerate("xy"):
        written(shop.loras / f"{name}.safetensors", 50 * number, shapes=OWN)

    def baked(loras="x.safetensors : 0.7 : 0.2\ny.safetensors", checkpoint="base.safetensors"):
        return shop.run("CVL_BakeLoRA", checkpoint=checkpoint, loras=loras, filename_prefix="checkpoints/b")

    return baked


def test_each_tensor_has_the_stack_in_it_and_the_others_are_as_they_were(run, shop):
    answer, report = run()
    before, after = load_file(shop.checkpoints / "base.safetensors"), load_file(answer["result"][0])
    stack = [
        dense(source(shop.loras / "x.safetensors", 0.7, 0.2), OWN),
        dense(source(shop.loras / "y.safetensors"), OWN),
    ]
    assert report["changed"] == 3 and before.keys() == after.keys()
    for key, name in TENSORS.items():
        expected = before[name].double() + stack[0][key] + stack[1][key]
        torch.testing.assert_close(after[name].double(), expected, rtol=0, atol=1e-6)
    assert torch.equal(after["first_stage_model.x"], before["first_stage_model.x"])


def test_fp16_is_rounded_once_and_only_one_tensor_is_read_at_a_time(run, shop, monkeypatch):
    checkpoint(shop.checkpoints / "half.safetensors", torch.float16)
    read, asked = TensorFile.read, []

    def watched(self, names, *more):
        asked.append((self.path.name, len(names := list(names))))
        return read(self, names, *more)

    monkeypatch.setattr(TensorFile, "read", watched)
    answer, _ = run(checkpoint="half.safetensors")
    assert max(count for name, count in asked if name == "half.safetensors") == 1
    before, after = load_file(shop.checkpoints / "half.safetensors"), load_file(answer["result"][0])
    stack = [
        dense(source(shop.loras / "x.safetensors", 0.7, 0.2), OWN),
        dense(source(shop.loras / "y.safetensors"), OWN),
    ]
    for key, name in TENSORS.items():
        exact = before[name].double() + stack[0][key] + stack[1][key]
        assert (after[name] == exact.half()).float().mean() > 0.999  # fp32 sums turn few roundings over


def test_the_recipe_is_in_the_header(run):
    answer, report = run()
    with open_tensors(Path(answer["result"][0])) as file:
        assert json.loads(file.metadata["cvl_baked"]) == report["files"]
    assert report["files"][0]["strength_clip"] == 0.2


def test_a_checkpoint_in_parts_becomes_one_in_as_many_parts(run, shop):
    whole, _ = run()
    part = in_parts(shop.checkpoints / "big.safetensors", shop.checkpoints / "base.safetensors")
    answer, report = run(checkpoint=part.name)
    index = Path(answer["result"][0])
    assert index.name == "b_00002_.safetensors.index.json"
    assert [Path(one).name for one in report["parts"]] == [
        "b_00002_-00001-of-00002.safetensors",
        "b_00002_-00002-of-00002.safetensors",
    ]
    assert report["size_bytes"] == sum(Path(one).stat().st_size for one in report["parts"])
    assert "in 2 parts, as the checkpoint is" in "\n".join(answer["ui"]["text"])
    expected = load_file(whole["result"][0])
    with open_tensors(index) as file:
        found = file.read(file.shapes)
        assert json.loads(file.metadata["cvl_baked"]) == report["files"] and file.metadata["format"] == "pt"
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    again, _ = run(checkpoint=part.name)
    assert Path(again["result"][0]).name == "b_00003_.safetensors.index.json"
