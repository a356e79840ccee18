"""Everything people pick by mistake, folders, shards, and that writing is whole or not at all."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from clip_vae_lora.files import writing
from clip_vae_lora.files.documents import read_json
from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import open_tensors, write_tensors


def refusal(path) -> str:
    with pytest.raises(FileFormatError) as caught:
        open_tensors(path).close()
    assert str(caught.value).startswith(path.name + ": ") and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "data, said",
    [
        (b"", "empty"),
        (b"abc", "only 3 bytes"),
        (b"<!DOCTYPE html><html><head><title>Log in</title>", "web page"),
        (b"\n  <HTML lang=en>" + b"x" * 5000, "web page"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><Error>AccessDenied</Error>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4265146304\n", "Git LFS pointer"),
        (b"GGUF\x03\0\0\0" + bytes(99), "GGUF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "PNG picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(25) + b"\0\0\1\0tEXtsd-ti-embedding\0e30=", "A1111's embeddings in a picture"),
        (b"\xff\xd8\xff\xe0" + bytes(99), "JPEG"),
        (b"\x93NUMPY\x01" + bytes(99), "NumPy"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
        (b"\x08\x07\x12\x07pytorch\x1a\x05" + bytes(99), "ONNX"),
        (b'{"error": "Invalid username or password."}', "JSON"),
        (b"Access to model is restricted", "text"),
        (bytes(4096), "zeros"),
        (bytes(range(128, 256)) * 9, "no file of a kind known"),
        (b"\xff" * 8 + b"{" + bytes(99), "100 MB is the limit"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors"])
def test_what_is_picked_by_mistake_is_named(tmp_path, data, said, name):
    (tmp_path / name).write_bytes(data)
    assert said in refusal(tmp_path / name)


def test_a_missing_file_a_file_as_folder_and_a_pipe(tmp_path):
    assert "no such file" in refusal(tmp_path / "gone.safetensors")
    (tmp_path / "file").write_text("x")
    assert "no such file" in refusal(tmp_path / "file" / "inner.pt")
    os.mkfifo(tmp_path / "pipe.pt")
    assert "pipe" in refusal(tmp_path / "pipe.pt")
    with pytest.raises(FileFormatError):
        open_tensors("a\0b")


def test_the_extension_does_not_matter(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "really_safetensors.ckpt")
    torch.save({"a": torch.ones(2)}, tmp_path / "really_torch.safetensors")
    for file in tmp_path.iterdir():
        with open_tensors(file) as opened:
            assert opened.shapes == {"a": (2,)}


def shards(folder, weight_map):
    save_file({"a": torch.ones(1), "b": torch.ones(2)}, folder / "m-00001-of-00002.safetensors", {"format": "pt"})
    save_file({"c": torch.full((3,), 2.0)}, folder / "m-00002-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 24}, "weight_map": weight_map}))
    return index


GOOD = {"a": "m-00001-of-00002.safetensors", "b": "m-00001-of-00002.safetensors", "c": "m-00002-of-00002.safetensors"}


def test_shards_are_one_file_through_the_index_or_the_folder(tmp_path):
    index = shards(tmp_path, GOOD)
    for path in (index, tmp_path):
        with open_tensors(path) as file:
            assert file.shapes == {"a": (1,), "b": (2,), "c": (3,)} and file.path == index
            assert file.read(["c", "a"])["c"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"a": "../m-00001-of-00002.safetensors"}, "beside it"),
        ({"a": "/etc/passwd"}, "beside it"),
        ({"a": "..\\x.safetensors"}, "beside it"),
        ({"a": "m.bin"}, "beside it"),
        ({"a": "m-00003.safetensors"}, "download all the parts"),
        ({"a": "m-00002-of-00002.safetensors"}, "different models"),
        ({"d": "m-00002-of-00002.safetensors"}, "different models"),
        ({"a": 1}, "weight_map"),
    ],
)
def test_an_index_that_leads_astray_is_refused(tmp_path, change, said):
    assert said in refusal(shards(tmp_path, GOOD | change))


def test_a_tensor_that_the_index_does_not_name_is_not_dropped(tmp_path):
    assert "'b'" in refusal(shards(tmp_path, {"a": GOOD["a"], "c": GOOD["c"]}))


def test_a_folder_gives_its_safetensors_before_its_pickles_and_full_precision_before_half(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    with open_tensors(tmp_path) as file:
        assert file.path.name == "pytorch_model.bin"
    for name in ("model.fp16.safetensors", "model.safetensors"):
        save_file({"a": torch.ones(1)}, tmp_path / name)
        torch.save({}, tmp_path / "optimizer.pt")
        with open_tensors(tmp_path) as file:
            assert file.path.name == name


def test_folders_without_one_answer_say_what_to_give(tmp_path):
    assert "holds no weights" in refusal(tmp_path)
    (tmp_path / "vae").mkdir()
    (tmp_path / "unet").mkdir()
    for part in ("vae", "unet"):
        save_file({"a": torch.ones(1)}, tmp_path / part / "diffusion_pytorch_model.safetensors")
    assert "give one of them: unet, vae" in refusal(tmp_path)
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    with open_tensors(tmp_path) as file:
        assert file.path.name == "x.safetensors"
    save_file({"a": torch.ones(1)}, tmp_path / "y.safetensors")
    assert "give one of them: x.safetensors, y.safetensors" in refusal(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_no_part_behind(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.ones(1)}, {})
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):  # before the last step the old file is untouched
        with monkeypatch.context() as patch:
            patch.setattr(writing.os, step, full_disk)
            with pytest.raises(FileFormatError, match="a.safetensors: cannot be written: No space left"):
                write_tensors(path, {"a": torch.zeros(99)}, {})
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_read_back_is_not_written(tmp_path):
    path = tmp_path / "a.safetensors"
    for tensors, metadata in (({"a": torch.tensor(float("nan"))}, {}), ({}, {}), ({"a": torch.ones(1)}, {"n": 1})):
        with pytest.raises(ValueError, match="a.safetensors"):
            write_tensors(path, tensors, metadata)
    with pytest.raises(FileFormatError, match="does not exist"):
        write_tensors(tmp_path / "no" / "a.safetensors", {"a": torch.ones(1)}, {})
    with pytest.raises(FileFormatError, match="is a folder"):
        write_tensors(tmp_path, {"a": torch.ones(1)}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "data, said",
    [
        (b"", "not valid JSON"),
        (b"[1]", "object"),
        (b'{"a":1,"a":2}', "'a' is there twice"),
        (b"\xff\xfe{", "not valid JSON"),
        (b"[" * 10**5, "nests too deeply"),
    ],
)
def test_json_that_is_none_is_refused(tmp_path, data, said):
    (tmp_path / "c.json").write_bytes(data)
    with pytest.raises(FileFormatError, match=said):
        read_json(tmp_path / "c.json")


def test_json_is_read_as_written_with_a_byte_order_mark_or_without(tmp_path):
    (tmp_path / "c.json").write_text('{"a": ["ä", 1]}', encoding="utf-8")
    assert read_json(tmp_path / "c.json") == {"a": ["ä", 1]}
    (tmp_path / "c.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "c.json").read_bytes())
    assert read_json(tmp_path / "c.json") == {"a": ["ä", 1]}
    with pytest.raises(FileFormatError, match="no such file"):
        read_json(tmp_path / "d.json")
