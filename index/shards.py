"""Shards of a picture index: rows of features in one safetensors file, in its metadata the files they were made of.

A shard is written whole and never changed, so it can be memory-mapped while others write. It says itself whose rows it
holds, so that one which no table knows yet (a crash, another process) is taken up and nothing is done twice.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..files.errors import FileFormatError
from ..files.safetensors_file import safetensors_contents
from ..files.tensors import write_tensors

PATTERN = "shard_*.safetensors"
_TENSOR, _MARK, _VERSION = "features", "cvl_picture_index", "1"


@dataclass(frozen=True)
class Picture:
    """A file as it was before it was read; `path` is below the folder that is indexed, with / in it."""

    path: str
    size_bytes: int
    mtime_ns: int
    changed_ns: int = field(default=0, compare=False)  # when the disk last wrote to it, see `Seen`; 0: not known


@dataclass(frozen=True)
class ShardEntry:
    """What became of a picture: its row in the shard, or why it has none."""

    picture: Picture
    row: int | None
    skipped: str = ""  # a sentence


def write_shard(folder: Path, entries: Sequence[ShardEntry], features: Tensor, model_key: str) -> str:
    """Write [n, E] with its files beside the other shards, on the disk for good; returns the file's name.

    Raises:
        FileFormatError: the disk refused.
    """
    name = f"shard_{uuid.uuid4().hex[:16]}.safetensors"
    files = [
        [entry.picture.path, entry.picture.size_bytes, entry.picture.mtime_ns, entry.row, entry.skipped]
        for entry in entries
    ]
    write_tensors(
        folder / name,
        {_TENSOR: features.float()},
        {_MARK: _VERSION, "model_key": model_key, "files": json.dumps(files)},
    )
    _keep_name(folder)
    return name


def read_entries(path: Path, model_key: str) -> list[ShardEntry]:
    """The files of a shard; none where another model made it, or where it was put together from others.

    Raises:
        FileFormatError: it is no shard, or damaged.
    """
    contents = safetensors_contents(path)
    metadata = contents.metadata
    if metadata.get(_MARK) != _VERSION or _TENSOR not in contents.shapes:
        raise FileFormatError(path, "this is no part of a picture index, or one of a later version")
    if metadata.get("model_key") != model_key:
        return []
    try:
        return [
            ShardEntry(Picture(place, size, mtime), row, skipped)
            for place, size, mtime, row, skipped in json.loads(metadata.get("files", "[]"))
        ]
    except (ValueError, TypeError) as error:
        raise FileFormatError(path, "the list of its files is damaged") from error


def rows_and_width(path: Path) -> tuple[int, int]:
    """How many rows of how many numbers a shard has, from its header and the file's size.

    Raises:
        FileFormatError: missing, cut short, or no shard.
    """
    contents = safetensors_contents(path)
    shape = contents.shapes.get(_TENSOR, ())
    if (
        contents.metadata.get(_MARK) != _VERSION
        or len(shape) != 2
        or contents.dtypes[_TENSOR] != torch.float32
        or len(contents.shapes) != 1
    ):
        raise FileFormatError(path, "this is no part of a picture index, or one of a later version")
    return shape[0], shape[1]


def map_rows(path: Path) -> Tensor:
    """The rows of a shard as they lie on the disk: read when they are used, never copied as a whole. -> fp32 [n, E]

    Raises:
        FileFormatError: missing, cut short, or no shard.
    """
    rows, width = rows_and_width(path)
    if not rows:
        return torch.empty(0, width)
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
    mapped = np.memmap(path, np.float32, "c", start, (rows, width))  # private: torch has no tensors for reading only
    return torch.from_numpy(mapped)


def _keep_name(folder: Path) -> None:
    """Flush the folder itself, so that a renamed file outlives a loss of power; Windows has no such call."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
