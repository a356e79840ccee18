"""LoRA files as they were read, kept while they are the same on disk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..files.documents import read_json
from ..files.errors import FileFormatError
from ..files.tensors import open_tensors
from ..lora import formats
from ..lora.adapters import Adapter, LoRAError
from ..lora.low_rank import change_norm

_KEPT_FILES, _KEPT_BYTES = 16, 2 * 2**30  # at most so many files, and so many bytes of them together
_kept: OrderedDict[tuple, ParsedFile] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class ParsedFile:
    """What is in a file, and its header's texts, which are anybody's words."""

    path: Path
    size_bytes: int
    file: formats.LoRAFile
    metadata: Mapping[str, str]
    _norms: dict[Adapter, float | None] = field(default_factory=dict)

    def norm_of(self, adapter: Adapter) -> float | None:
        """The Frobenius norm of an adapter's change at strength 1; None where only the change itself would tell."""
        if adapter not in self._norms:
            self._norms[adapter] = change_norm(adapter)
        return self._norms[adapter]


def parsed(path: Path) -> ParsedFile:
    """The file, read again when it or the adapter_config.json beside it has another time or size.

    Raises:
        FileFormatError: it cannot be read, or is no LoRA.
    """
    key = (path, *_mark(path), *_mark(path.with_name("adapter_config.json")))
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    read = _read(path, key[2] or 0)
    with _lock:
        for old in [old for old in _kept if old[0] == path]:
            del _kept[old]
        if read.size_bytes <= _KEPT_BYTES:
            _kept[key] = read
        while len(_kept) > _KEPT_FILES or sum(kept.size_bytes for kept in _kept.values()) > _KEPT_BYTES:
            _kept.popitem(last=False)
    return read


def _mark(path: Path) -> tuple[int | None, int | None]:
    try:
        status = path.stat()
    except OSError:
        return None, None
    return status.st_mtime_ns, status.st_size


def _read(path: Path, size_bytes: int) -> ParsedFile:
    with open_tensors(path) as file:
        tensors, metadata = file.read(file.shapes), file.metadata
        beside = file.path.with_name("adapter_config.json")
    try:
        found = formats.read(tensors, metadata, _configuration(path, beside) if _is_peft(path, tensors) else None)
    except LoRAError as error:
        raise FileFormatError(path, str(error)) from error
    return ParsedFile(path, size_bytes, found, metadata)


def _is_peft(path: Path, names: Iterable[str]) -> bool:
    """Whether an adapter_config.json beside it is its own, and not that of another file in the folder."""
    return path.name.startswith("adapter_model") or any("base_model.model." in name for name in names)


def _configuration(path: Path, beside: Path) -> Mapping[str, object] | None:
    if not beside.is_file():
        return None
    try:
        return read_json(beside)
    except FileFormatError as error:
        raise FileFormatError(path, f"the {beside.name} beside it, which holds its scale, cannot be used: "
                                    f"{error.sentence}") from error  # fmt: skip
