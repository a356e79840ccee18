"""Reading LoRA files: a file is read once as long as a node uses it and it stays unchanged on disk."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...files.documents import read_json
from ...files.errors import FileFormatError
from ...files.sniff import status_mark
from ...files.tensors import open_tensors
from ...lora.formats import read as formats
from ...lora.kinds.adapters import Adapter, LoRAError
from ...lora.weights.low_rank import change_norm
from ...lora.weights.measuring import Size, change_sizes
from .. import catalog
from ..catalog import NAMES_BESIDE_A_LORA

# A node keeps the files that it read last, as long as the host keeps the node. ComfyUI drops its nodes, and so the
# files, when its memory is freed (/free).
_alive: weakref.WeakValueDictionary[tuple, ParsedFile] = weakref.WeakValueDictionary()
_lock = threading.Lock()
NONE = "none"


@dataclass(frozen=True, eq=False)
class ParsedFile:
    """The adapters of a file, and the texts of its header, which are untrusted."""

    path: Path
    size_bytes: int
    file: formats.LoRAFile
    metadata: Mapping[str, str]
    _norms: dict[Adapter, float | None] = field(default_factory=dict)
    _sizes: dict[Adapter, Size | None] = field(default_factory=dict)

    def norm_of(self, adapter: Adapter) -> float | None:
        """The Frobenius norm of an adapter's change at strength 1; None where only the dense change would tell."""
        if adapter not in self._norms:
            self._norms[adapter] = change_norm(adapter)
        return self._norms[adapter]

    def sizes_of(self, adapters: Iterable[Adapter]) -> dict[Adapter, Size]:
        """The estimated sizes of adapters' changes at strength 1; adapters whose size needs the change are left out."""
        wanted = list(dict.fromkeys(adapters))
        new = [adapter for adapter in wanted if adapter not in self._sizes]
        self._sizes.update(zip(new, change_sizes(new)))
        return {adapter: size for adapter in wanted if (size := self._sizes[adapter]) is not None}


def read_lora(path: Path) -> ParsedFile:
    """Read a LoRA file, or return the copy in memory if it and its adapter_config.json are unchanged.

    Raises:
        FileFormatError: the file cannot be read, or is no LoRA.
    """
    mark = _mark(path)
    key = (path, mark, *(_mark(path.with_name(name)) for name in NAMES_BESIDE_A_LORA))
    with _lock:
        if (found := _alive.get(key)) is not None:
            return found
    read = _read(path, mark[1] if mark else 0)
    with _lock:
        return _alive.setdefault(key, read)


def lora_choice() -> tuple[list[str], dict]:
    """The input of a node that works on one file. A new node begins with none: nobody has asked for a file yet."""
    words = {"tooltip": "LoRA of any kind, by any tool; bundled/ is the example that comes with this pack."}
    return [NONE, *catalog.choices("lora")], {"default": NONE, "cvl_nothing": NONE, **words}


def read_chosen(choice: str) -> ParsedFile:
    """Read the file of a menu's entry, which a saved workflow may still name after the file has gone.

    Raises:
        FileFormatError: the file cannot be read, or is no LoRA.
        ValueError: none is chosen, or there is no such file.
    """
    if choice == NONE:
        raise ValueError("no LoRA is chosen: choose a file")
    try:
        path = catalog.path("lora", choice)
    except FileNotFoundError as error:
        problem = f'there is no "{choice}" in the model folder loras; put it there, or choose another file'
        raise ValueError(problem) from error
    return read_lora(path)


def _mark(path: Path) -> tuple[int, int, int, int] | None:
    try:
        return status_mark(path.stat())
    except OSError:
        return None


def _read(path: Path, size_bytes: int) -> ParsedFile:
    with open_tensors(path) as file:
        tensors, metadata, largest = file.read(file.shapes), file.metadata, file.largest
        beside = file.path.with_name(NAMES_BESIDE_A_LORA[0])
    try:
        config = _configuration(path, beside) if _is_peft(path, tensors) else None
        found = formats.read(tensors, metadata, config, largest=largest)
    except LoRAError as error:
        raise FileFormatError(path, str(error)) from error
    return ParsedFile(path, size_bytes, found, metadata)


def _is_peft(path: Path, names: Iterable[str]) -> bool:
    """Whether the adapter_config.json in the folder belongs to this file, and not to another file there."""
    return path.name.startswith("adapter_model") or any("base_model.model." in name for name in names)


def _configuration(path: Path, beside: Path) -> Mapping[str, object] | None:
    if not beside.is_file():
        return None
    try:
        return read_json(beside)
    except FileFormatError as error:
        raise FileFormatError(
            path, f"the {beside.name} beside it, which holds its scale, cannot be used: {error.sentence}"
        ) from error
