"""A picture index opened for searching: rows that stay on the disk, and the pictures they belong to.

An index is a folder: `index.sqlite` (table.py), shards of rows (shards.py) and the writers' lock. Readers
and one writer can work at the same time: shards never change, and the table is read at one moment.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..files.errors import FileFormatError
from ..files.sniff import content_mark, status_mark
from .shards import Picture, map_rows
from .table import TABLE, Facts, Shard, Table

_TRIES = 3  # a writer that puts shards together removes files between two of our steps


@dataclass(frozen=True)
class PictureIndex:
    """Rows are counted through all blocks. `dead[n]` are rows of block n that no picture has any more."""

    folder: Path
    facts: Facts
    blocks: tuple[Tensor, ...]  # fp32 [n, E] each, rows of length 1
    dead: tuple[Tensor, ...]
    rows: int  # that are a picture's
    skipped: int
    _shards: tuple[Shard, ...]

    @property
    def pictures_folder(self) -> Path:
        """The folder of the pictures."""
        return Path(os.path.realpath(self.folder / self.facts.folder))

    def pictures(self, rows: Sequence[int]) -> list[Picture | None]:
        """Return the picture of each row; None if the index has changed since it was opened."""
        table = Table(self.folder / TABLE)
        try:
            with table.reading():
                return table.at([self._place(row) for row in rows])
        finally:
            table.close()

    def has_changed(self, picture: Picture) -> bool:
        """Whether a picture of this index is another than when it was read: by size and time, and where the disk has
        written to it since, by content.

        Raises:
            OSError: it is not there any more, or cannot be read.
        """
        path = self.pictures_folder / picture.path
        status = os.stat(path)
        if (status.st_size, status.st_mtime_ns) != (picture.size_bytes, picture.mtime_ns):
            return True
        table = Table(self.folder / TABLE)
        try:
            with table.reading():
                before = table.seen_of(picture.path)
        finally:
            table.close()
        return before.changed_ns not in (0, status.st_ctime_ns) and before.content != content_mark(path)

    def _place(self, row: int) -> tuple[int, int]:
        for shard in self._shards:
            if row < shard.rows:
                return shard.number, row
            row -= shard.rows
        raise IndexError(row)


def open_index(folder: Path) -> PictureIndex:
    """Open an index for reading.

    Raises:
        FileFormatError: there is none, it is empty, damaged, or of a later version.
    """
    for last in (False,) * (_TRIES - 1) + (True,):
        try:
            return _open(folder)
        except FileFormatError as error:
            if last or error.path.parent != folder or error.path.name == TABLE:
                if error.path.name == TABLE:
                    raise
                raise FileFormatError(
                    folder, f"this index is damaged ({error}); run Index Folder, which makes the lost part anew"
                ) from error
    raise AssertionError


def _open(folder: Path) -> PictureIndex:
    table = Table(folder / TABLE)
    try:
        with table.reading():
            facts, shards, live = table.facts(), table.shards(), table.live()
            skipped = table.skipped_count()
            taken = {s.number: table.rows_of(s.number) for s in shards if live.get(s.number, 0) != s.rows}
    finally:
        table.close()
    if facts is None:
        raise FileFormatError(folder / TABLE, "the index is empty: nothing was ever written to it; index a folder")
    blocks, dead = [], []
    for shard in shards:
        rows = map_rows(folder / shard.name)
        if rows.shape != (shard.rows, facts.width):
            raise FileFormatError(
                folder / shard.name, f"it is {list(rows.shape)} where {[shard.rows, facts.width]} was written"
            )
        blocks.append(rows)
        missing = torch.ones(shard.rows, dtype=torch.bool)
        missing[taken.get(shard.number, slice(None))] = False
        dead.append(missing.nonzero()[:, 0])
    return PictureIndex(folder, facts, tuple(blocks), tuple(dead), sum(live.values()), skipped, tuple(shards))


def pictures_state(folder: Path) -> str:
    """Return a mark that changes when a picture of an index is written over, moved or deleted; "none" without an index
    that can be read. It asks the disk for the status of each picture, and reads none of them.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        table = Table(folder / TABLE)
        try:
            with table.reading():
                facts, known = table.facts(), sorted(table.pictures())
        finally:
            table.close()
    except FileFormatError:
        return "none"
    root = os.path.realpath(folder / (facts.folder if facts else "."))
    for path in known:
        digest.update(f"{path}:{_status(os.path.join(root, path))}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _status(path: str) -> str:
    try:
        return ":".join(map(str, status_mark(os.stat(path))))
    except (OSError, ValueError):
        return "missing"


def state(folder: Path) -> str:
    """Return a mark that changes when the index does; "none" without an index."""
    try:
        return ":".join(map(str, status_mark(os.stat(folder / TABLE))))
    except OSError:
        return "none"
