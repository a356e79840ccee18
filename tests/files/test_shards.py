"""A model in parts, written tensor by tensor: what transformers reads back, all parts or none."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.folder import is_part_of, parts_of, write_shards
from clip_vae_lora.files.tensors import open_tensors

TENSORS = {
    "a.weight": torch.arange(6, dtype=torch.float16).reshape(2, 3),
    "b.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "c.weight": torch.arange(4, dtype=torch.bfloat16),
}
KINDS = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS.items()}
SHARDS = {"a.weight": "old-00001-of-00002.safetensors", "b.weight": "old-00002-of-00002.safetensors"}
SHARDS["c.weight"] = SHARDS["a.weight"]


def write(path, tensor_of=TENSORS.__getitem__, on_step=lambda done, total: None):
    return write_shards(path, SHARDS, KINDS, tensor_of, {"said": "ä"}, on_step)


def test_the_library_reads_the_parts_and_we_the_whole(tmp_path):
    steps = []
    index, parts = write(tmp_path / "new.safetensors", on_step=lambda *step: steps.append(step))
    assert index.name == "new.safetensors.index.json"
    assert [part.name for part in parts] == ["new-00001-of-00002.safetensors", "new-00002-of-00002.safetensors"]
    assert [set(load_file(part)) for part in parts] == [{"a.weight", "c.weight"}, {"b.weight"}]
    said = json.loads(index.read_text())
    assert said["weight_map"]["b.weight"] == parts[1].name and said["metadata"]["total_size"] == 12 + 48 + 8
    with safe_open(parts[1], "pt") as file:
        assert file.metadata() == {"said": "ä"}
    with open_tensors(index) as file:
        found = file.read(file.shapes)
        assert file.metadata == {"said": "ä"} and file.shards["c.weight"] == parts[0].name
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_transformers_reads_what_is_written(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(
        vocab_size=20, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2
    )
    model = transformers.CLIPTextModel(config)
    weights = model.state_dict()
    kinds = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in weights.items()}
    shards = {name: f"{number % 3}.safetensors" for number, name in enumerate(weights)}
    write_shards(tmp_path / "model.safetensors", shards, kinds, weights.__getitem__, {"format": "pt"})
    config.save_pretrained(tmp_path)
    found = transformers.CLIPTextModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize("broken", [KeyError, KeyboardInterrupt])
def test_what_stops_it_in_the_last_part_leaves_the_old_parts_and_nothing_else(tmp_path, broken):
    path = tmp_path / "x.safetensors"
    write(path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}

    def tensor_of(name):
        if name == "b.weight":
            raise broken
        return TENSORS[name] + 1

    with pytest.raises(broken):
        write(path, tensor_of)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before and len(before) == 3


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def full(*_):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileFormatError, match="x-00002-of-00002.safetensors.*No space left on device"):
        write(tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_place_of_a_part_is_said_before_anything_is_written(tmp_path):
    folder = tmp_path / "x-00002-of-00002.safetensors"
    folder.mkdir()
    with pytest.raises(FileFormatError, match="this is a folder"):
        write(tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == [folder]


def test_index_and_parts_know_one_another(tmp_path):
    index, parts = write(tmp_path / "x.safetensors")
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"")
    for file in (index, *parts):
        assert set(parts_of(file)) == {index, *parts}
        assert is_part_of(index, file) and is_part_of(parts[1], file) and not is_part_of(other, file)
    assert parts_of(other) == [other] and is_part_of(other, other)
    assert not is_part_of(Path(tmp_path, "none"), index)
