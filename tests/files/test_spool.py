"""A safetensors file that is written tensor by tensor."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import Spool, open_tensors

TENSORS = {
    "half": torch.arange(5, dtype=torch.float16),
    "alpha": torch.tensor(4.0),
    "matrix": torch.randn(3, 7).mT,
    "ä": torch.randn(2, 2, 3, 3).bfloat16(),
    "bytes": torch.arange(3, dtype=torch.uint8),
    "double": torch.randn(2, dtype=torch.float64),
    "tiny": torch.tensor([1.5, 2.0]).to(torch.float8_e4m3fn),
}


def test_the_file_is_what_safetensors_reads_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "a.safetensors"
    with Spool(path) as spool:
        for name, tensor in TENSORS.items():
            spool.put(name, tensor)
        assert not path.exists()
        spool.finish({"title": "x"})
    found = load_file(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name].double(), tensor.double())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"title": "x"}
    with open_tensors(path) as file:
        assert file.read(["matrix"])["matrix"].equal(TENSORS["matrix"])
    assert [one.name for one in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_file_that_is_not_finished_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), Spool(path) as spool:
        spool.put("a", torch.ones(3))
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and [one.name for one in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_full_disk_is_said_with_the_files_name(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with Spool(tmp_path / "a.safetensors") as spool:
        spool.put("a", torch.ones(3))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(FileFormatError, match="a.safetensors.*cannot be written: No space left on device"):
                spool.finish({})
    assert not list(tmp_path.iterdir())


def test_names_that_come_twice_nan_and_missing_folders_are_refused(tmp_path):
    with Spool(tmp_path / "a.safetensors") as spool:
        spool.put("a", torch.ones(3))
        with pytest.raises(ValueError, match="'a' comes twice"):
            spool.put("a", torch.ones(3))
        with pytest.raises(FileFormatError, match="NaN"):
            spool.put("b", torch.tensor([float("nan")]))
    with pytest.raises(FileFormatError, match="cannot be written"), Spool(tmp_path / "no" / "b.safetensors"):
        pass
