"""TorchScript archives, as OpenAI published CLIP: the tensors of the tree of modules in it, and no code run.

A zip: `data.pkl` describes the tree of modules, `data/N` are the tensors' bytes, `code/` is the program, which is not
looked at. Format: torch/csrc/jit/serialization/export_module.cpp.
"""

import contextlib
import math
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .contents import Contents, size_text
from .errors import FileFormatError
from .inert_pickle import Global, PersistentId, PickleError, Reduced, parse_pickle
from .sniff import regular_file_size, zip_records

MAX_PICKLE_BYTES = 16 * 2**20  # one of a CLIP has less than a tenth of that
_MAX_DEPTH = 32
_MAX_DIMENSIONS = 8
_MAX_VALUES = 200_000  # of all modules together; the largest CLIP has a tenth of that
_MAX_SHARING = 4  # how often the file's bytes may be in tensors; a module can be there under several names
_MODULE, _TENSOR = "__torch__.", "torch._utils._rebuild_tensor_v2"
_STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
_NAME = re.compile(r"[\w-]{1,100}", re.ASCII)  # of an attribute: an identifier or, in a Sequential, a number
_OTHERS = {"collections.OrderedDict", "torch.device"}  # beside tensors and modules; what they make is left out
_LISTS = "torch.jit._pickle."  # lists and dictionaries of a declared type


@dataclass(frozen=True)
class _StoredTensor:
    """Where a tensor's numbers lie."""

    record: str
    dtype: torch.dtype
    offset: int  # in numbers, from the record's start
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def take(self, data: bytes) -> Tensor:
        flat = torch.frombuffer(bytearray(data), dtype=self.dtype) if data else torch.empty(0, dtype=self.dtype)
        return flat.as_strided(self.shape, self.stride, self.offset).clone(memory_format=torch.contiguous_format)


def torchscript_contents(path: Path) -> Contents:
    """The tensors of an archive under the names of its `state_dict`; their data stay on disk until read. `metadata` has
    the class of the outermost module as "torchscript".
    """
    records = _records(path)
    root = _root(path, records)
    with _open_archive(path) as archive:
        data = archive.read(f"{root}/data.pkl")
    try:
        document = parse_pickle(data, _may_name)
    except PickleError as error:
        raise FileFormatError(path, f"{error}; nothing was run; get the .safetensors version") from error
    if not isinstance(document, Reduced) or _parts(document) is None:
        raise FileFormatError(path, "it is a TorchScript archive without a module in it; get the .safetensors version")
    places, ignored = _gather(path, document)
    for name, place in places.items():
        _check(path, name, place, root, records)
    if sum(place.size_bytes for place in places.values()) > _MAX_SHARING * regular_file_size(path):
        raise FileFormatError(
            path, "its tensors share their bytes so often that they would fill the memory: the file was made to mislead"
        )
    if not places:
        raise FileFormatError(path, "it is a TorchScript archive without one tensor in it")
    return Contents(
        {name: place.shape for name, place in places.items()},
        {name: place.dtype for name, place in places.items()},
        partial(_load, path, root, places),
        {"torchscript": document.maker.name.removeprefix(_MODULE)},
        ignored,
    )


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; what the zip library says about a broken one becomes one sentence."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, struct.error, ValueError) as error:
        raise FileFormatError(
            path,
            "it begins like a TorchScript archive but cannot be read to its end: it is "
            "damaged, or the download was cut short",
        ) from error


def _records(path: Path) -> dict[str, zipfile.ZipInfo]:
    """What lies in the archive and is read here: stored as it is, each once, together no larger than the file.

    Programs beside them are compressed, which does not matter, as they are not unpacked.
    """
    read = [record for record in zip_records(path) if _is_read(record.filename)]
    records = {record.filename: record for record in read}
    if (
        len(records) < len(read)
        or any(record.compress_type for record in read)
        or sum(record.file_size for record in read) > regular_file_size(path)
    ):
        raise FileFormatError(
            path,
            "its tensors are compressed, overlap or are there twice, as in a zip bomb, and "
            "PyTorch never writes that; nothing was unpacked",
        )
    return records


def _is_read(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and parts[1] in ("data.pkl", "byteorder") or len(parts) == 3 and parts[1] == "data"


def _root(path: Path, records: Mapping[str, zipfile.ZipInfo]) -> str:
    roots = {name.split("/")[0] for name in records}
    root = next(iter(roots), "")
    if len(roots) != 1 or f"{root}/data.pkl" not in records:
        raise FileFormatError(
            path,
            "it begins like a TorchScript archive, but its tensors lie in more than one folder "
            "or in none; nothing was unpacked",
        )
    if records[f"{root}/data.pkl"].file_size > MAX_PICKLE_BYTES:
        raise FileFormatError(
            path, f"its pickle has {size_text(records[f'{root}/data.pkl'].file_size)}, and 16 MiB is the limit"
        )
    if f"{root}/byteorder" in records:
        with _open_archive(path) as archive, archive.open(f"{root}/byteorder") as file:
            order = file.read(16)
        if order != b"little":
            raise FileFormatError(
                path,
                "its numbers have their bytes in the order of big-endian machines, which is "
                "not read here; get the .safetensors version",
            )
    return root


def _may_name(name: str) -> bool:
    return name.startswith((_MODULE, _LISTS)) or name == _TENSOR or name in _STORAGES or name in _OTHERS


def _parts(value: object) -> dict[object, object] | None:
    """What a module is filled with, by name; None for what is no module."""
    if isinstance(value, Reduced) and value.maker.name.startswith(_MODULE) and isinstance(value.state, dict):
        return value.state
    return None


def _gather(path: Path, document: Reduced) -> tuple[dict[str, _StoredTensor], tuple[str, ...]]:
    """Where the tensors of all modules lie, under their dotted names, and the names of what could not be understood."""
    places: dict[str, _StoredTensor] = {}
    ignored: list[str] = []
    waiting, count = [("", _parts(document) or {}, 0)], 0
    while waiting:
        prefix, parts, depth = waiting.pop()
        count += len(parts)
        if depth > _MAX_DEPTH or count > _MAX_VALUES:
            raise FileFormatError(
                path, "its tree of modules is deeper or larger than that of any model: the file was made to mislead"
            )
        for key, value in parts.items():
            if not isinstance(key, str) or not _NAME.fullmatch(key):
                raise FileFormatError(
                    path,
                    f"its module {prefix!r} has a part without a proper name: the file is "
                    "damaged or was made to mislead",
                )
            inner = _parts(value)
            if inner is not None:
                waiting.append((f"{prefix}{key}.", inner, depth + 1))
            elif isinstance(value, Reduced) and value.maker.name == _TENSOR:
                places[prefix + key] = _place(path, prefix + key, value.arguments)
            elif isinstance(value, Reduced) and value.maker.name.startswith(_MODULE):
                ignored.append(prefix + key)
    return places, tuple(ignored)


def _place(path: Path, name: str, arguments: tuple) -> _StoredTensor:
    """`_rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks)` of a storage that is
    ("storage", its class, its record, its device, its length).
    """
    match arguments:
        case (
            PersistentId(("storage", Global(kind), str(record), str(), int(length))),
            int(offset),
            tuple(shape),
            tuple(stride),
            *_,
        ) if kind in _STORAGES:
            numbers = (length, offset, *shape, *stride)
            if (
                all(type(number) is int and 0 <= number < 2**62 for number in numbers)
                and len(shape) == len(stride) <= _MAX_DIMENSIONS
            ):
                return _StoredTensor(record, _STORAGES[kind], offset, shape, stride)
    raise FileFormatError(
        path,
        f"tensor {name!r} is described in a way that PyTorch does not write: the file is "
        "damaged or of a kind not read here; get the .safetensors version",
    )


def _check(path: Path, name: str, place: _StoredTensor, root: str, records: Mapping[str, zipfile.ZipInfo]) -> None:
    """All of the tensor's numbers lie in its record, and there are no more of them than numbers there."""
    record = records.get(f"{root}/data/{place.record}")
    if record is None:
        raise FileFormatError(path, f"the data of tensor {name!r} are not in it: the file is damaged")
    room, count = record.file_size // place.dtype.itemsize, math.prod(place.shape)
    steps = zip(place.shape, place.stride)
    last = place.offset + sum((length - 1) * step for length, step in steps) if count else 0
    if record.file_size % place.dtype.itemsize or count > room or last >= max(room, 1):
        raise FileFormatError(
            path,
            f"tensor {name!r} of shape {list(place.shape)} claims more than the "
            f"{size_text(record.file_size)} that are there for it: the file is damaged or was "
            "made to mislead",
        )


def _load(path: Path, root: str, places: Mapping[str, _StoredTensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors named, each its own copy; the archive's checksums are looked at."""
    with _open_archive(path) as archive:
        return {name: places[name].take(archive.read(f"{root}/data/{places[name].record}")) for name in names}
