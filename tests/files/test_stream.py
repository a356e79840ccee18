"""A safetensors file written tensor by tensor: what the library reads back, whole or not at all."""

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.safetensors_file import write_stream
from clip_vae_lora.files.tensors import open_tensors

TENSORS = {
    "b.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "a.weight": torch.arange(6, dtype=torch.float16).reshape(2, 3),
    "ids": torch.arange(3),
    "one": torch.tensor(7.0, dtype=torch.bfloat16),
    "none": torch.zeros(0, 4),
    "eight": torch.ones(5, dtype=torch.float32).to(torch.float8_e4m3fn),
}
KINDS = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS.items()}


def test_the_library_reads_every_tensor_and_text_back(tmp_path):
    path, steps = tmp_path / "x.safetensors", []
    write_stream(path, KINDS, TENSORS.__getitem__, {"said": "ä"}, lambda *step: steps.append(step))
    found = load_file(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name].float(), tensor.float())
    with open_tensors(path) as own:
        assert own.metadata == {"said": "ä"} and own.shapes == {name: shape for name, (_, shape) in KINDS.items()}
    assert steps == [(n, 6) for n in range(1, 7)]


def test_one_tensor_is_asked_for_at_a_time_and_each_once(tmp_path):
    asked = []
    write_stream(tmp_path / "x.safetensors", KINDS, lambda name: asked.append(name) or TENSORS[name], {})
    assert sorted(asked) == sorted(TENSORS)


@pytest.mark.parametrize("broken", [KeyError, KeyboardInterrupt])
def test_what_stops_it_leaves_the_old_file_and_nothing_else(tmp_path, broken):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")

    def tensor_of(name):
        if name == "one":
            raise broken
        return TENSORS[name]

    with pytest.raises(broken):
        write_stream(path, KINDS, tensor_of, {})
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_tensor_of_another_shape_or_type_than_was_said_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'ids' became torch.float32 \[1\]"):
        write_stream(tmp_path / "x", {"ids": (torch.int64, (1,))}, lambda name: torch.zeros(1), {})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileFormatError, match="No space left on device"):
        write_stream(tmp_path / "x.safetensors", KINDS, TENSORS.__getitem__, {})
    assert not list(tmp_path.iterdir())
