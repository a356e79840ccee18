"""Which pictures a folder holds now, and what has changed since an index last saw it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files.decoding.kinds import OTHER_PICTURES, SUFFIXES
from ..files.errors import FileFormatError
from .shards import Picture


@dataclass(frozen=True)
class Scan:
    """The pictures of a folder. `refused` maps paths that are not read to the reason; `folders` maps each listed
    folder, by its path below the root ("" is the root), to its modification time before the listing. `others` counts
    the files that are not taken for pictures, by the ending of their names in small letters.
    """

    pictures: dict[str, Picture] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)

    @property
    def unsupported(self) -> dict[str, int]:
        """The pictures of kinds that are not read, counted by the ending of their names."""
        return {suffix: count for suffix, count in sorted(self.others.items()) if suffix in OTHER_PICTURES}


@dataclass(frozen=True)
class FolderChanges:
    new: tuple[Picture, ...]
    changed: tuple[Picture, ...]
    gone: tuple[str, ...]
    unchanged: int


def scan(folder: Path, *, recursive: bool, left_out: Sequence[Path] = ()) -> Scan:
    """List the pictures in a folder by their suffixes, without hidden files, hidden folders and those left out; does
    not follow links to folders, nor links to files outside, and names both.

    Raises:
        FileFormatError: the folder cannot be listed.
    """
    found, root = Scan(), Path(os.path.realpath(folder))
    waiting, excluded = [""], {os.path.realpath(path) for path in left_out}
    while waiting:
        below = waiting.pop()
        try:
            found.folders[below] = os.stat(root / below).st_mtime_ns
            with os.scandir(root / below) as entries:
                for entry in entries:
                    _look(root, below, entry, found, waiting if recursive else None, excluded)
        except OSError as error:
            if not below:
                raise FileFormatError(folder, f"this folder cannot be listed: {error.strerror or error}") from error
            found.refused[below] = f"this folder cannot be listed: {error.strerror or error}"
    return found


def lists_the_same(folder: Path, found: Scan) -> bool:
    """Whether these folders still list the same files. Asks for the status of folders, not of files: a file that was
    overwritten in place goes unnoticed.
    """
    root = Path(os.path.realpath(folder))
    try:
        return all(os.stat(root / below).st_mtime_ns == seen for below, seen in found.folders.items())
    except OSError:
        return False


def _look(
    root: Path, below: str, entry: os.DirEntry, found: Scan, waiting: list[str] | None, excluded: set[str]
) -> None:
    path, hidden = below + entry.name, entry.name.startswith(".")
    if hidden:
        return
    if entry.is_dir(follow_symlinks=False):
        if waiting is not None and os.path.join(root, path) not in excluded:
            waiting.append(path + "/")
        return
    if entry.is_symlink() and entry.is_dir():
        if waiting is not None and os.path.realpath(entry.path) not in excluded:
            found.refused[_readable(path)] = "a link to a folder, which is not followed; index that folder itself"
        return
    if not entry.name.lower().endswith(SUFFIXES):
        suffix = os.path.splitext(_readable(entry.name))[1].lower()
        found.others[suffix] = found.others.get(suffix, 0) + 1
        return
    _look_at_file(root, path, entry, found)


def _look_at_file(root: Path, path: str, entry: os.DirEntry, found: Scan) -> None:
    if _readable(path) != path:
        found.refused[_readable(path)] = "its name is no text; rename it"
        return
    try:
        if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(root):
            found.refused[path] = "a link that leads out of the folder"
            return
        status = entry.stat()
        if entry.is_file():
            found.pictures[path] = Picture(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        else:
            found.refused[path] = "this is a device or a pipe, and no picture"
    except OSError as error:
        found.refused[path] = f"cannot be read: {error.strerror or error}"


def _readable(path: str) -> str:
    """A path as text: bytes that are none become question marks."""
    return path.encode("utf-8", "replace").decode()


def changes(
    scan: Scan, known: Mapping[str, Picture], is_same: Callable[[Picture], bool] = lambda picture: True
) -> FolderChanges:
    """Compare a scan with the pictures that the index knows, by size and time, and where these are the same by
    `is_same`. Pictures of a folder that could not be listed do not count as deleted.
    """
    hidden = tuple(path for path in scan.refused if path.endswith("/"))
    new, changed, unchanged = [], [], 0
    for path, picture in sorted(scan.pictures.items()):
        if path not in known:
            new.append(picture)
        elif known[path] != picture or not is_same(picture):
            changed.append(picture)
        else:
            unchanged += 1
    gone = [path for path in known if path not in scan.pictures and not (hidden and path.startswith(hidden))]
    return FolderChanges(tuple(new), tuple(changed), tuple(gone), unchanged)
