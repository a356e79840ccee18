"""A CONDITIONING in a safetensors file: its tensors bit by bit, everything else as JSON in the file's metadata.

No pickle is written or read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...files.errors import FileFormatError
from ...files.sniff import SAFETENSORS, sniff
from ...files.tensors import open_tensors, write_tensors
from ...files.tree import Bundle, TreeError, UnstorableError, restore
from ..catalog import SavedFiles
from ..host.interface import Conditioning
from .entries import check_conditioning, option_words

if TYPE_CHECKING:
    from ..host.interface import Tensor

SUFFIX = ".conditioning.safetensors"
FILES = SavedFiles(SUFFIX, "red_circle")  # "a red circle" by the bundled text encoder
_MARK, _VERSION = "cvl_conditioning", 1


@dataclass(frozen=True)
class StoredConditioning:
    """The content of a file."""

    tensors: dict[str, Tensor]
    entries: str  # JSON
    lost: tuple[str, ...]  # sentences about options that cannot be stored


def store(conditioning: object) -> StoredConditioning:
    """Translate a CONDITIONING to the content of a file: the tokens and options of each entry.

    Raises:
        ValueError: it is no CONDITIONING, it has no entries, or none of its tensors can be stored.
    """
    bundle, entries, lost = Bundle(), [], []
    for number, (hidden, options) in enumerate(check_conditioning(conditioning, "conditioning")):
        stored = []
        try:
            cond = bundle.add(hidden, f"{number}/cond")
        except UnstorableError as error:
            raise ValueError(f"the tokens of entry {number + 1} cannot be stored, because they are {error}") from error
        for key, value in options.items():
            try:
                stored.append([bundle.add(key, ""), bundle.add(value, f"{number}/{key}")])
            except UnstorableError as error:
                lost.append(f"{option_words(key)} of entry {number + 1} cannot be stored: it has {error} in it")
        entries.append([cond, {"dict": stored}])
    if not bundle.tensors:
        raise ValueError("there are no tensors in this CONDITIONING, so there is nothing to save")
    text = json.dumps({"version": _VERSION, "entries": entries}, allow_nan=False)
    return StoredConditioning(bundle.tensors, text, tuple(lost))


def write(path: Path, content: StoredConditioning, texts: Mapping[str, str]) -> None:
    """Write the file, whole or not at all. `texts` (prompt, workflow) go into its metadata. Raises FileFormatError."""
    write_tensors(path, content.tensors, {**texts, _MARK: content.entries})


def read(path: Path) -> Conditioning:
    """Read the CONDITIONING in a file, onto the CPU.

    Raises:
        FileFormatError: the file is not one of ours, damaged, or of a newer version.
    """
    if sniff(path) != SAFETENSORS:
        raise FileFormatError(
            path,
            "a conditioning saved by Save Conditioning (CVL) was expected, but this is no "
            "safetensors file; choose another",
        )
    with open_tensors(path) as file:
        entries = _entries(path, file.metadata, list(file.shapes))
        stored = file.read(file.shapes)

    def tensor(name: str) -> Tensor:
        if name not in stored:
            raise TreeError(f"the tensor {name!r} is missing")
        return stored[name]

    try:
        conditioning = restore(entries, tensor)
    except TreeError as error:
        raise FileFormatError(path, f"this saved conditioning is damaged: {error}; save it again") from error
    if not isinstance(conditioning, list) or not all(_is_sound(entry) for entry in conditioning) or not conditioning:
        raise FileFormatError(path, "this saved conditioning is damaged: it is no list of entries; save it again")
    return conditioning


def list_tensors(content: StoredConditioning) -> dict[str, list]:
    """The tensors of a file by name: dtype and shape."""
    return {
        name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for name, tensor in content.tensors.items()
    }


def summary(conditioning: Conditioning) -> list[dict]:
    """The shape of the tokens and the options of each entry."""
    return [{"tokens": _shape(hidden), "options": [str(key) for key in options]} for hidden, options in conditioning]


def _shape(hidden: object) -> str:
    shape = list(getattr(hidden, "shape", ()))
    return f"{shape[1]} tokens, {shape[2]} wide" if len(shape) == 3 else f"{type(hidden).__name__} {shape}"


def _is_sound(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], dict)


def _entries(path: Path, metadata: Mapping[str, str], names: list[str]) -> object:
    if _MARK not in metadata:
        raise FileFormatError(
            path,
            "a conditioning saved by Save Conditioning (CVL) was expected, but this "
            f"safetensors file holds something else ({len(names)} tensors, {names[0]!r} for "
            "example); choose another, or the loader for its kind",
        )
    try:
        found = json.loads(metadata[_MARK])
    except (ValueError, RecursionError) as error:
        raise FileFormatError(path, "this saved conditioning is damaged: its description is no JSON") from error
    if not isinstance(found, dict) or not isinstance(found.get("version"), int) or "entries" not in found:
        raise FileFormatError(path, "this saved conditioning is damaged: its description is incomplete")
    if found["version"] > _VERSION:
        raise FileFormatError(
            path, f"it was saved in version {found['version']}, and this pack reads {_VERSION}; update the pack"
        )
    return found["entries"]
