"""Safetensors: the header is checked word by word, then the tensors asked for are read, and only those.

Format: huggingface/safetensors README. The header has a check of its own because the library takes one key twice, and
because what is wrong is to be said in words. The numbers are read here because the library maps the file: a LoRA of
two thousand small tensors is then copied one by one, and a file that is shortened while it is mapped ends the process.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .contents import Contents, size_text
from .documents import parse_json
from .errors import FileFormatError
from .sniff import MAX_HEADER_BYTES, regular_file_size
from .writing import write_whole

_DTYPES = {  # theirs: torch's name (older torch lacks the last ones)
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "C64": "complex64",
    "BOOL": "bool",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
_KNOWN_DTYPES = {theirs: dtype for theirs, name in _DTYPES.items() if (dtype := getattr(torch, name, None)) is not None}
_MAX_DIMENSIONS = 8
_SMALL, _BLOCK = 2**20, 2**24  # bytes: smaller tensors lie together, in blocks of that size at the most
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
        mark = _mark(file)
        length = int.from_bytes(file.read(8), "little")
        if size < 9 or length > MAX_HEADER_BYTES:
            raise FileFormatError(
                path,
                f"its safetensors header claims to have {size_text(length)}: this is no "
                "safetensors file, or it is damaged",
            )
        if length > size - 8:
            raise FileFormatError(
                path,
                f"its safetensors header has {size_text(length)} but the file only "
                f"{size_text(size)}: the download was cut short",
            )
        header = _header(path, file.read(length))
    metadata = _metadata(path, header.pop("__metadata__", None))
    entries = {name: _entry(path, name, value, 8 + length) for name, value in header.items()}
    _check_coverage(path, entries, 8 + length, size)
    return Contents(
        {name: entry.shape for name, entry in entries.items()},
        {name: entry.dtype for name, entry in entries.items()},
        partial(_load, path, mark, entries),
        metadata,
    )


def write_stream(
    path: Path,
    kinds: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    tensor_of: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a file tensor by tensor, so that one is in memory at a time; whole or not at all.

    Args:
        kinds: the type and shape of each tensor, known before the first is made.
        tensor_of: makes a tensor by its name; it is asked once for each.
        metadata: the texts of the header.
        on_step: called after each tensor with (done, all); may raise to stop, and nothing is left behind then.

    Raises:
        FileFormatError: the disk refused. ValueError: a tensor of another type or shape than was said.
    """
    write_whole(path, stream(path, kinds, tensor_of, metadata, on_step))


def stream(
    path: Path,
    kinds: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    tensor_of: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    on_step: Callable[[int, int], None],
) -> Callable[[BinaryIO], None]:
    """The function that fills an open file tensor by tensor; `path` is for sentences, the rest as in `write_stream`."""
    theirs = {dtype: name for name, dtype in _KNOWN_DTYPES.items()}
    order = sorted(kinds, key=lambda name: (-kinds[name][0].itemsize, name))  # every number at a place of its size
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for name in order:
        dtype, shape = kinds[name]
        end = place + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": theirs[dtype], "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)

    def fill(file: BinaryIO) -> None:
        file.write(len(text).to_bytes(8, "little") + text)
        for done, name in enumerate(order, 1):
            tensor = tensor_of(name).detach().cpu().contiguous()
            if (tensor.dtype, tuple(tensor.shape)) != (kinds[name][0], tuple(kinds[name][1])):
                raise ValueError(
                    f"{path.name}: {name!r} became {tensor.dtype} {list(tensor.shape)} while it was written"
                )
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
            on_step(done, len(order))

    return fill


def _load(path: Path, mark: tuple[int, int], entries: Mapping[str, _Entry], names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors named, in memory of their own, so that the file is not held open behind them.

    What lies side by side in the file and is small lies in one block, which is read at once and lives as long as one of
    them does.
    """
    wanted = {name: entries[name] for name in names}
    found: dict[str, Tensor] = {}
    with open(path, "rb", buffering=0) as file:
        if _mark(file) != mark:
            raise FileFormatError(path, "it was changed while it was being read: load it again")
        for block in _blocks(wanted):
            start = wanted[block[0]].begin
            # numpy asks the system for large pages, torch does not: what is read arrives twice as quickly
            memory = torch.from_numpy(np.empty(wanted[block[-1]].end - start, dtype=np.uint8))
            _fill(path, file, start, memory)
            for name in block:
                dtype, shape, begin, end = wanted[name]
                found[name] = memory[begin - start : end - start].view(dtype).view(shape)
    return {name: found[name] for name in wanted}


def _mark(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_mtime_ns, status.st_size


def _blocks(entries: Mapping[str, _Entry]) -> Iterator[list[str]]:
    """Names whose bytes follow one another, each at a place that its dtype can be read from; a large one by itself."""
    block: list[str] = []
    start = place = 0
    for name, (dtype, _, begin, end) in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        follows = begin == place and end - start <= _BLOCK and end - begin < _SMALL
        if block and not (follows and (begin - start) % dtype.itemsize == 0):
            yield block
            block = []
        if not block:
            start = begin
        block.append(name)
        place = end if end - begin < _SMALL else -1  # nothing follows a large one
    if block:
        yield block


def _fill(path: Path, file: FileIO, start: int, memory: Tensor) -> None:
    file.seek(start)
    rest: memoryview = memory.numpy().data
    while rest:
        if not (count := file.readinto(rest)):
            raise FileFormatError(path, "it became shorter while it was being read: load it again")
        rest = rest[count:]


def _header(path: Path, data: bytes) -> dict:
    try:
        header = parse_json(data.decode("utf-8"))
    except ValueError as error:
        raise FileFormatError(
            path, f"its safetensors header is not valid JSON ({error}): the file is damaged or was made to mislead"
        ) from error
    if not isinstance(header, dict):
        raise FileFormatError(path, "its safetensors header is not a JSON object: the file is damaged")
    return header


def _metadata(path: Path, found: object) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise FileFormatError(path, "its __metadata__ is not a table of texts: the safetensors header is damaged")
    if found.get("format") in _FOREIGN:
        raise FileFormatError(
            path,
            f"it was written for {_FOREIGN[found['format']]}, whose names and axes differ; get the PyTorch version",
        )
    return found


def _entry(path: Path, name: str, value: object, start: int) -> _Entry:
    """One line of the header: every number is checked before anything is allocated."""

    def wrong(what: str) -> FileFormatError:
        return FileFormatError(path, f"tensor {name!r} {what}: the safetensors header is damaged")

    if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= value.keys():
        raise wrong("lacks its dtype, shape or data_offsets")
    dtype = _KNOWN_DTYPES.get(str(value["dtype"]))
    if dtype is None:
        raise FileFormatError(
            path,
            f"tensor {name!r} has the dtype {value['dtype']!r}, which is not read here; known are {', '.join(_DTYPES)}",
        )
    shape, offsets = value["shape"], value["data_offsets"]
    for numbers in (shape, offsets):
        if not _are_whole(numbers):
            raise wrong(f"has {numbers!r} where whole numbers >= 0 are expected")
    if len(offsets) != 2 or offsets[0] > offsets[1] or offsets[1] >= 2**62:
        raise wrong(f"lies at the impossible offsets {offsets}")
    if len(shape) > _MAX_DIMENSIONS:
        raise wrong(f"has {len(shape)} dimensions, and {_MAX_DIMENSIONS} are the limit")
    begin, end = offsets
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise wrong(f"of shape {shape} needs {math.prod(shape) * dtype.itemsize} bytes and is given {end - begin}")
    return _Entry(dtype, tuple(shape), start + begin, start + end)


def _are_whole(numbers: object) -> bool:
    if not isinstance(numbers, list):
        return False
    for number in numbers:  # a loop: `any` over a generator takes twice as long, and there are thousands
        if type(number) is not int or number < 0:
            return False
    return True


def _check_coverage(path: Path, entries: dict[str, _Entry], start: int, size: int) -> None:
    """The tensors must lie one after the other and fill the file to its end."""
    place = start
    last = max((entry.end for entry in entries.values()), default=start)
    if last > size:
        raise FileFormatError(
            path,
            f"its header promises {size_text(last)} but the file has {size_text(size)}: the download was cut short",
        )
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != place:
            what = "overlaps the tensor before it" if entry.begin < place else "leaves a gap before it"
            raise FileFormatError(path, f"tensor {name!r} {what}: the safetensors header is damaged")
        place = entry.end
    if place != size:
        raise FileFormatError(
            path,
            f"it has {size_text(size - place)} after its last tensor: the file is damaged, or two files were joined",
        )
