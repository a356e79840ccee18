"""Safetensors: the header is checked word by word, then only the bytes of the tensors asked for are read.

Format: huggingface/safetensors README. Our own reader, because the library accepts one key twice, and because one
seek and one read per tensor leave nothing mapped (on Windows a mapped file cannot be replaced). Our own writer,
because the library's puts metadata in a random order, and a file made again should be the same file.
"""

import json
import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from .contents import Contents, size_text
from .documents import parse_json
from .errors import FileFormatError
from .sniff import MAX_HEADER_BYTES, regular_file_size

_DTYPES = {  # theirs: torch's name (older torch lacks the last ones)
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "C64": "complex64", "BOOL": "bool",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
_MAX_DIMENSIONS = 8
_FOREIGN = {"tf": "TensorFlow", "flax": "Flax (JAX)", "mlx": "MLX", "np": "NumPy"}


class _Entry(NamedTuple):
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int  # bytes from the start of the file
    end: int


def safetensors_contents(path: Path) -> Contents:
    """Names, shapes, dtypes and metadata from the header; no tensor is read yet."""
    size = regular_file_size(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 9 or length > MAX_HEADER_BYTES:
            raise FileFormatError(path, f"its safetensors header claims to have {size_text(length)}: this is no "
                                        "safetensors file, or it is damaged")
        if length > size - 8:
            raise FileFormatError(path, f"its safetensors header has {size_text(length)} but the file only "
                                        f"{size_text(size)}: the download was cut short")
        header = _header(path, file.read(length))
    metadata = _metadata(path, header.pop("__metadata__", None))
    entries = {name: _entry(path, name, value, 8 + length) for name, value in header.items()}
    _check_coverage(path, entries, 8 + length, size)
    return Contents(
        {name: entry.shape for name, entry in entries.items()},
        {name: entry.dtype for name, entry in entries.items()},
        partial(_load, path, entries),
        metadata,
    )


def write_safetensors(file: BinaryIO, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Header, then the tensors: those with large elements first, as the library does, so that each lies aligned."""
    names = {getattr(torch, name): theirs for theirs, name in _DTYPES.items() if hasattr(torch, name)}
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    place = 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in names:
            raise ValueError(f"tensor {name!r} has the dtype {tensor.dtype}, which safetensors files do not have")
        end = place + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, end]}
        place = end
    data = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    data += b" " * (-len(data) % 8)
    file.write(len(data).to_bytes(8, "little") + data)
    for name in order:
        if tensors[name].numel():
            file.write(memoryview(tensors[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()))


def _load(path: Path, entries: dict[str, _Entry], names: Iterable[str]) -> dict[str, Tensor]:
    """Seek and read each tensor, in the order of the file."""
    result = {}
    with open(path, "rb", buffering=0) as file:
        for name in sorted(names, key=lambda name: entries[name].begin):
            entry = entries[name]
            tensor = torch.empty(entry.shape, dtype=entry.dtype)
            if tensor.numel():
                file.seek(entry.begin)
                _fill(path, file, memoryview(tensor.view(-1).view(torch.uint8).numpy()))
            result[name] = tensor
    return result


def _fill(path: Path, file, view: memoryview) -> None:
    """Read until the view is full; one read of the system gives at most 2 GB."""
    while view:
        count = file.readinto(view)
        if not count:
            raise FileFormatError(path, "it became shorter while it was being read")
        view = view[count:]


def _header(path: Path, data: bytes) -> dict:
    try:
        header = parse_json(data.decode("utf-8"))
    except ValueError as error:
        raise FileFormatError(path, f"its safetensors header is not valid JSON ({error}): the file is damaged or was "
                                    "made to mislead") from error
    if not isinstance(header, dict):
        raise FileFormatError(path, "its safetensors header is not a JSON object: the file is damaged")
    return header


def _metadata(path: Path, found: object) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise FileFormatError(path, "its __metadata__ is not a table of texts: the safetensors header is damaged")
    if found.get("format") in _FOREIGN:
        raise FileFormatError(path, f"it was written for {_FOREIGN[found['format']]}, whose names and axes differ; "
                                    "get the PyTorch version")
    return found


def _entry(path: Path, name: str, value: object, start: int) -> _Entry:
    """One line of the header: every number is checked before anything is allocated."""
    def wrong(what: str) -> FileFormatError:
        return FileFormatError(path, f"tensor {name!r} {what}: the safetensors header is damaged")

    if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= value.keys():
        raise wrong("lacks its dtype, shape or data_offsets")
    dtype = getattr(torch, _DTYPES.get(str(value["dtype"]), ""), None)
    if dtype is None:
        raise FileFormatError(path, f"tensor {name!r} has the dtype {value['dtype']!r}, which is not read here; known "
                                    f"are {', '.join(_DTYPES)}")
    shape, offsets = value["shape"], value["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or any(type(number) is not int or number < 0 for number in numbers):
            raise wrong(f"has {numbers!r} where whole numbers >= 0 are expected")
    if len(offsets) != 2 or offsets[0] > offsets[1] or offsets[1] >= 2**62:
        raise wrong(f"lies at the impossible offsets {offsets}")
    if len(shape) > _MAX_DIMENSIONS:
        raise wrong(f"has {len(shape)} dimensions, and {_MAX_DIMENSIONS} are the limit")
    if math.prod(shape) * dtype.itemsize != offsets[1] - offsets[0]:
        raise wrong(f"of shape {shape} needs {math.prod(shape) * dtype.itemsize} bytes and is given "
                    f"{offsets[1] - offsets[0]}")
    return _Entry(dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _check_coverage(path: Path, entries: dict[str, _Entry], start: int, size: int) -> None:
    """The tensors must lie one after the other and fill the file to its end."""
    place = start
    last = max((entry.end for entry in entries.values()), default=start)
    if last > size:
        raise FileFormatError(path, f"its header promises {size_text(last)} but the file has {size_text(size)}: the "
                                    "download was cut short")
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != place:
            what = "overlaps the tensor before it" if entry.begin < place else "leaves a gap before it"
            raise FileFormatError(path, f"tensor {name!r} {what}: the safetensors header is damaged")
        place = entry.end
    if place != size:
        raise FileFormatError(path, f"it has {size_text(size - place)} after its last tensor: the file is damaged, or "
                                    "two files were joined")
