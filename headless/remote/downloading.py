"""Files that a job left on the server, saved here under the names they have there, whole or not at all."""

from __future__ import annotations

import asyncio
import filecmp
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...files.errors import FileFormatError
from ...files.writing import part_beside, take_name
from ..workflow.folders import Folders
from .connection import Connection
from .errors import ServerError

_AT_ONCE = 4
_MOST_NAMED = 5
_MODELS = (".glb", ".gltf", ".obj", ".fbx", ".stl", ".spz", ".splat", ".ply", ".ksplat", ".usdz")


@dataclass(frozen=True)
class Saved:
    """A file of a node, and where it lies now."""

    node: str
    path: Path


async def save(
    connection: Connection, outputs: Mapping[str, Mapping], folder: Path, parts: Path | None = None
) -> list[Saved]:
    """Fetch every file that the outputs (node -> ui) name into the folder, previews into its temp/.

    A file that is here already is not written again; another one of its name here keeps it, and the new one is
    "NAME (2)". Files that are not whole yet lie in `parts`, so that whoever starts anew after a kill can remove
    them, or else beside the place that they get.

    Raises:
        WorkflowError: a name leads out of the folder. ServerError: files are missing; all others are saved.
        FileFormatError: the disk refused.
    """
    folders, gate = Folders(folder), asyncio.Semaphore(_AT_ONCE)
    wanted = [(node, entry, folders.saved(entry)) for node, ui in outputs.items() for entry in entries(ui)]

    async def fetch(node: str, entry: Mapping, path: Path) -> Saved | str | None:
        async with gate:
            found = await _fetch(connection, entry, path, parts)
        return Saved(node, found) if found else None if entry.get("shown") else str(entry["filename"])

    tasks = [asyncio.ensure_future(fetch(*one)) for one in wanted]
    try:
        found = await asyncio.gather(*tasks)
    finally:
        for task in tasks:  # of which none writes on when one has failed
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    missing = [one for one in found if isinstance(one, str)]
    if missing:
        raise MissingFiles(missing, [one for one in found if isinstance(one, Saved)])
    return [one for one in found if isinstance(one, Saved)]


class MissingFiles(ServerError):
    """The server named files that it does not give; `saved` are those that it gave."""

    def __init__(self, names: list[str], saved: list[Saved]):
        more = f" and {len(names) - _MOST_NAMED} more files" if len(names) > _MOST_NAMED else ""
        rest = "; the others are here" if saved else ""
        shown = ", ".join(names[:_MOST_NAMED])
        super().__init__(f"the server does not give {shown}{more}, which the job saved{rest}")
        self.saved = saved


def entries(ui: Mapping) -> Iterator[Mapping]:
    """What of a node's ui is a file in the server's output or temp folder: images, gifs, audio, video, 3d, files.

    The previews of 3-D models give the model's name alone, first in `result`; it may be one of the input folder, which
    is no loss.
    """
    for key, values in ui.items():
        listed = values if isinstance(values, (list, tuple)) else [values]
        for entry in listed:
            if isinstance(entry, Mapping) and entry.get("filename") and entry.get("type") in ("output", "temp"):
                yield entry
        if key == "result" and listed and isinstance(listed[0], str) and listed[0].lower().endswith(_MODELS):
            subfolder, _, filename = listed[0].replace("\\", "/").rpartition("/")
            yield {"filename": filename, "subfolder": subfolder, "type": "output", "shown": True}


async def _fetch(connection: Connection, entry: Mapping, path: Path, parts: Path | None) -> Path | None:
    """Save one file; where it lies, None when the server does not have it."""
    params = {key: str(entry.get(key) or "") for key in ("filename", "subfolder", "type")}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_beside(path, _same_disk(path.parent, parts)) as part:
            with part.open("wb") as file:
                status = await connection.download("/view", params, file)
            if status != 200:
                return None
            same: list[Path] = []
            try:
                return take_name(part, _names(path, part, same))
            except FileExistsError:
                return same[0]
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error
    except FileFormatError as refused:  # of the part, whose name says nothing to anybody
        raise _refused(path, refused.sentence.removeprefix("cannot be written: ")) from refused


def _refused(path: Path, why: str) -> FileFormatError:
    return FileFormatError(path, f"cannot be written into {path.parent}: {why}")


def _same_disk(folder: Path, parts: Path | None) -> Path | None:
    """`parts`, made, where a file can be moved from there into the folder at once."""
    if parts is None:
        return None
    parts.mkdir(parents=True, exist_ok=True)
    return parts if parts.stat().st_dev == folder.stat().st_dev else None


def _names(path: Path, part: Path, same: list[Path]) -> Iterator[Path]:
    """Names to try, each asked for when the one before it was taken; ends at a file of the same content."""
    yield path
    name, number = path, 2
    while not (name.is_file() and filecmp.cmp(part, name, shallow=False)):
        name = path.with_name(f"{path.stem} ({number}){path.suffix}")
        yield name
        number += 1
    same.append(name)
