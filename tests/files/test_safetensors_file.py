"""Our reading of safetensors files against the library's writer, literal bytes, and files made to mislead."""

import struct
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import open_tensors, write_tensors

from ..support.files.safetensors_bytes import entry, raw, refusal
from ..support.growth import used_s

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_read_bit_for_bit_as_the_library_reads_it(tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    tensors = {
        "x": (torch.rand(3, 5) * 9).to(dtype),
        "scalar": torch.tensor(1).to(dtype),
        "none": torch.zeros(0, 4).to(dtype),
    }
    save_file(tensors, path, {"format": "pt", "who": "me"})
    with open_tensors(path) as file:
        read = file.read(file.shapes)
        assert file.metadata == {"format": "pt", "who": "me"}
        assert file.dtypes == dict.fromkeys(tensors, dtype)
    for name, expected in load_file(path).items():
        assert read[name].dtype == dtype and read[name].shape == expected.shape
        assert read[name].reshape(-1).view(torch.uint8).equal(expected.reshape(-1).view(torch.uint8))


def test_what_was_written_is_read_back_and_written_again_the_same(tmp_path):
    shared = torch.arange(12.0).reshape(3, 4)
    tensors = {"b": shared.T, "a": shared, "half": shared[:2].half()}
    write_tensors(tmp_path / "1.safetensors", tensors, {"z": "1", "a": "2"})
    with open_tensors(tmp_path / "1.safetensors") as file:
        read = file.read(tensors)
        write_tensors(tmp_path / "2.safetensors", read, file.metadata)
    assert all(read[name].equal(tensors[name]) for name in tensors)
    assert all(value.equal(tensors[name]) for name, value in load_file(tmp_path / "1.safetensors").items())
    again = load_file(tmp_path / "2.safetensors")
    assert all(value.equal(tensors[name]) for name, value in again.items()) and file.metadata == {"z": "1", "a": "2"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["1.safetensors", "2.safetensors"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_library_reads_what_we_write(tmp_path, dtype):
    tensors = {"x": (torch.rand(3, 5) * 9).to(dtype), "é": torch.tensor(1).to(dtype)}
    tensors["none"] = torch.zeros(0, 4).to(dtype)
    write_tensors(tmp_path / "a.safetensors", tensors, {"ä": "ö"})
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"ä": "ö"} and set(file.keys()) == set(tensors)
        for name, tensor in tensors.items():
            read = file.get_tensor(name)
            assert read.dtype == dtype and read.shape == tensor.shape
            assert read.reshape(-1).view(torch.uint8).equal(tensor.reshape(-1).view(torch.uint8))


def test_of_a_4_gb_file_only_the_tensors_asked_for_are_read(tmp_path):
    big = 4 * 10**9
    path = raw(
        tmp_path / "big.safetensors",
        {"unet": entry(0, big), "clip": entry(big, big + 16), "vae": entry(big + 16, big + 24)},
    )
    start = path.stat().st_size
    with open(path, "r+b") as file:
        file.truncate(start + big)  # a hole: takes no place on the disk
        file.seek(start + big)
        file.write(struct.pack("<6f", 1, 2, 3, 4, 5, 6))
    read = {}

    def read_two():
        with open_tensors(path) as file:
            read.update(file.read(["vae", "clip"]))

    open_tensors(path).close()  # what is loaded once per process is not the file's cost
    resource = pytest.importorskip("resource", reason="tells the highest memory of a process, not under Windows")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used = used_s(read_two)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # in kilobytes, on macOS in bytes
    assert list(read) == ["vae", "clip"] and read["clip"].tolist() == [1, 2, 3, 4] and read["vae"].tolist() == [5, 6]
    assert used < 0.1  # of the processor; measured below 1 ms, and 4 GB go through none in less than 0.3 s
    assert grown * (1 if sys.platform == "darwin" else 1024) < 16 * 2**20  # measured 0


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = tmp_path / "whole.safetensors"
    save_file({"a": torch.rand(8), "b": torch.rand(3, 3)}, whole, {"k": "v"})
    data = whole.read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        text = refusal(path)
        assert any(word in text for word in ("cut short", "empty")), (length, text)


@pytest.mark.parametrize(
    "header, data, said",
    [
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            bytes(4),
            "'a' is there twice",
        ),
        (b'{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}', bytes(4), "'shape' is there twice"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12), "overlaps"),
        ({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12), "gap"),
        ({"a": entry(4, 8)}, bytes(8), "gap"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, bytes(4), "whole numbers"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4), "whole numbers"),
        ({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, bytes(4), "whole numbers"),
        ({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}, bytes(4), "whole numbers"),
        ({"a": {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]}}, bytes(4), "whole numbers"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4), "impossible offsets"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**63]}}, bytes(4), "impossible offsets"),
        ({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4), "needs"),
        ({"a": {"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 4]}}, bytes(4), "9 dimensions"),
        ({"a": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}, bytes(3), "F6_E2M3"),
        ({"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}, bytes(4), "dtype"),
        ({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4), "lacks"),
        ({"a": None}, b"", "lacks"),
        ({"a": entry(0, 4)}, bytes(9), "after its last tensor"),
        ({"a": entry(0, 4 * 10**9)}, bytes(9), "promises 4 GB but the file has"),
        ({"__metadata__": {"format": "flax"}, "a": entry(0, 4)}, bytes(4), "Flax"),
        ({"__metadata__": {"n": 1}, "a": entry(0, 4)}, bytes(4), "__metadata__"),
        ({}, b"", "no tensors"),
        (b"{" * 50_000, b"", "not valid JSON"),
        (b'{"a":' + b"[" * 100_000, b"", "nests too deeply"),
        (b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}', bytes(4), "not valid JSON"),
        (b'{"\xff\xfe":1}', b"", "not valid JSON"),
    ],
)
def test_a_header_made_to_mislead_is_refused_with_the_reason(tmp_path, header, data, said):
    assert said in refusal(raw(tmp_path / "bad.safetensors", header, data))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2], ids=str)
def test_values_that_are_no_numbers_are_refused_only_when_they_are_read(tmp_path, value, dtype):
    path = tmp_path / "nan.safetensors"
    broken = torch.ones(4)
    broken[2] = value
    save_file({"good": torch.ones(2), "broken": broken.to(dtype)}, path)
    with open_tensors(path) as file:
        assert file.read(["good"])["good"].tolist() == [1, 1]
        with pytest.raises(FileFormatError, match="nan.safetensors: tensor 'broken' has (NaN|infinite)"):
            file.read(["good", "broken"])


def test_the_causal_mask_of_open_clip_may_hold_minus_infinity(tmp_path):
    save_file({"text.attn_mask": torch.full((3, 3), -float("inf")).triu(1)}, tmp_path / "m.safetensors")
    with open_tensors(tmp_path / "m.safetensors") as file:
        assert file.read(file.shapes)["text.attn_mask"].isinf().sum() == 3


def test_a_cast_touches_floats_and_leaves_integers(tmp_path):
    save_file({"w": torch.ones(2).to(torch.float8_e4m3fn), "ids": torch.arange(3)}, tmp_path / "c.safetensors")
    with open_tensors(tmp_path / "c.safetensors") as file:
        read = file.read(["w", "ids"], torch.float16)
    assert read["w"].dtype == torch.float16 and read["ids"].dtype == torch.int64


def test_scaled_fp8_is_refused_instead_of_read_without_its_scale(tmp_path):
    one = torch.ones(1)
    save_file(
        {"fc.weight": one.to(torch.float8_e4m3fn), "fc.scale_weight": one.clone(), "o": one}, tmp_path / "s.safetensors"
    )
    with open_tensors(tmp_path / "s.safetensors") as file:
        assert file.read(["o"])
        with pytest.raises(FileFormatError, match="scaled fp8"):
            file.read(["fc.weight"])


@pytest.mark.parametrize(
    "names, expected",
    [
        (["module.a", "module.b"], ["a", "b"]),
        (["_orig_mod.module.a"], ["a"]),
        (["module.a", "b"], ["module.a", "b"]),
        (["module."], ["module."]),
    ],
)
def test_wrapping_prefixes_go_only_when_every_name_has_them(tmp_path, names, expected):
    save_file({name: torch.full((1,), float(index)) for index, name in enumerate(names)}, tmp_path / "w.safetensors")
    with open_tensors(tmp_path / "w.safetensors") as file:
        assert {name: value.item() for name, value in file.read(expected).items()} == {
            name: index for index, name in enumerate(expected)
        }


def test_a_name_that_is_not_there_and_a_closed_file_are_errors(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    with open_tensors(tmp_path / "a.safetensors") as file:
        with pytest.raises(FileFormatError, match="no tensor 'b'"):
            file.read(["b"])
    with pytest.raises(ValueError, match="closed"):
        file.read(["a"])
    with open_tensors(tmp_path / "a.safetensors") as file:
        (tmp_path / "a.safetensors").unlink()
        with pytest.raises(FileFormatError, match="cannot be read any more"):
            file.read(["a"])


def test_a_file_that_changes_between_its_header_and_its_numbers_is_a_sentence(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(100)}, path)
    with open_tensors(path) as file:
        save_file({"a": torch.ones(101)}, path)
        with pytest.raises(FileFormatError, match="it was changed while it was being read: load it again"):
            file.read(["a"])


def test_what_was_read_does_not_change_with_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(100)}, path)
    with open_tensors(path) as file:
        read = file.read(["a"])["a"]
    with open(path, "r+b") as file:
        file.truncate(0)  # of a mapped file the next look ends the process
    assert read.equal(torch.ones(100))
