"""Numbers are checked in runs of tensors that lie one after another in memory: NaN and infinity are found in all."""

import json
import math
import struct

import pytest
import torch
from safetensors.torch import save_file

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import _bounds, open_tensors

from ..support.files.safetensors_bytes import entry, raw


def test_small_and_large_tensors_at_any_place_are_read_as_the_library_reads_them(tmp_path):
    torch.manual_seed(0)
    dtypes = [torch.float16, torch.float32, torch.bfloat16, torch.int64, torch.float8_e4m3fn] * 6
    tensors = {f"s{n}": torch.randn(n % 5, 3).to(dtype) for n, dtype in enumerate(dtypes)}
    tensors |= {
        "large": torch.randn(700, 1000),
        "one": torch.tensor(2.5),
        "half": torch.randn(9_000_001).half(),
        "flags": torch.tensor([True, False]),
        "wave": torch.tensor([1 + 2j]),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    with open_tensors(tmp_path / "a.safetensors") as file:
        for names in (list(tensors), ["s3", "large", "s9"], ["one"]):
            read = file.read(names)
            assert list(read) == names
            for name in names:
                assert read[name].dtype == tensors[name].dtype and read[name].shape == tensors[name].shape
                assert (
                    read[name].contiguous().view(torch.uint8).equal(tensors[name].view(torch.uint8))
                    if (tensors[name].ndim)
                    else read[name].equal(tensors[name])
                )
        floats = [t.float().abs().max().item() for t in tensors.values() if t.is_floating_point() and t.numel()]
        assert file.largest == max(floats)


def test_numbers_at_odd_addresses_are_read_too(tmp_path):
    header = json.dumps({"a": entry(0, 3, [3], "U8"), "b": entry(3, 7, [2], "F16")}).encode()
    header += b" " * (len(header) % 2)  # so that "b" lies at an odd address
    path = raw(tmp_path / "odd.safetensors", header, b"abc" + struct.pack("<2e", 1.5, -2.0))
    with open_tensors(path) as file:
        assert file.read(["a", "b"])["b"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("place", [0, 700, 1999])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_broken_number_among_thousands_of_small_tensors_is_found_and_named(place, value, tmp_path):
    tensors = {f"{n:04}": torch.full((5,), n / 3).half() for n in range(2000)}
    tensors[f"{place:04}"][4] = value
    save_file(tensors, tmp_path / "nan.safetensors")
    with open_tensors(tmp_path / "nan.safetensors") as file:
        with pytest.raises(FileFormatError, match=f"tensor '{place:04}' has (NaN|infinite)"):
            file.read(file.shapes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_bounds_of_16_bits_are_right_for_every_pair_of_far_numbers(dtype):
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    sound = every[every.isfinite()]
    for first in (*sound[::997], sound[-1], sound[0]):
        for second in sound[::1009]:
            low, high = _bounds(torch.stack([first, second]))
            assert (low, high) == (min(0.0, first.item(), second.item()), max(0.0, first.item(), second.item()))
    for value in every[~every.isfinite()]:
        found = _bounds(torch.cat([sound[:9], value[None]]))
        assert any(map(math.isnan, found)) if value.isnan() else value.item() in found
