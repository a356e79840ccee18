"""The results of a search are pictures: read from disk, named as Load Image names them, with notes on lost ones."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...clip_core.features.search import nearest, rows_at
from ...drawing.contact_sheet import Cell, thumbnail
from ...drawing.fit import as_batch, batch_size_px, fit_picture
from ...files.errors import FileFormatError
from ...files.pictures import read_rgb
from ...index.reading import PictureIndex, open_index
from ...index.shards import Picture
from ..host import OnStep, host
from ..host.interface import Features, Image

_SPARE = 16  # hits requested beyond those wanted; they replace pictures that are gone


INDEX = ("STRING", {"default": "pictures", "tooltip": "The name of an index that Index Folder made."})
MAX_SHEET_ROWS = 50


@dataclass(frozen=True)
class Hit:
    """A picture of the index, its name for Load Image, and its cosine to the query."""

    path: Path
    name: str
    score: float


@dataclass(frozen=True)
class Found:
    """The results of a search: the hits of each query, best first, and notes on pictures that were left out."""

    queries: tuple[tuple[Hit, ...], ...]
    best_score: float  # of any row, shown or not
    notes: tuple[str, ...]


def open_named(name: str) -> PictureIndex:
    """Open the index of this name and check that it has pictures and that its folder may be shown.

    Raises:
        ValueError: no index has this name (the sentence lists those that exist), it has no pictures, or its folder may
            not be shown.
        FileFormatError: it is damaged.
    """
    places = host.data_places()
    folder = places.index_folder(name)
    if not (folder / "index.sqlite").is_file():
        there = ", ".join(places.index_names()) or "none"
        raise ValueError(f"there is no index {name!r}, there are: {there}; make one with Index Folder (CVL)")
    index = open_index(folder)
    if not index.rows:
        raise ValueError(
            f"the index {name!r} has no pictures in it ({index.skipped} skipped); put pictures into its folder, and "
            "index that again"
        )
    if places.name_of(index.pictures_folder / "x") is None:
        raise ValueError(
            f"the pictures of the index {name!r} lie in {index.pictures_folder.name}, outside the input and the output "
            "folder, and are not shown; index a folder below those"
        )
    return index


def notes_of(index: PictureIndex) -> list[str]:
    """Return a note if the index is not complete."""
    remaining = index.facts.remaining
    return (
        [
            f"the index is not complete: {remaining} pictures were still to do when indexing was stopped; run Index "
            "Folder again, it goes on from there"
        ]
        if remaining
        else []
    )


def search(index: PictureIndex, queries: Features, count: int, min_score: float, on_step: OnStep) -> Found:
    """Find the best `count` pictures that still exist for each query [Q, E], with a cosine of `min_score` or more."""
    found = nearest(index.blocks, queries, count + _SPARE, dead=index.dead, on_step=on_step)
    notes: list[str] = []
    result: list[tuple[Hit, ...]] = []
    for scores, rows in zip(found.scores.tolist(), found.rows.tolist()):
        hits: list[Hit] = []
        for score, picture in zip(scores, index.pictures(rows)):
            if len(hits) == count or score < min_score:
                break
            hit = _hit(index, picture, score, notes)
            if hit is not None:
                hits.append(hit)
        result.append(tuple(hits))
    return Found(tuple(result), float(found.scores.max()), tuple(dict.fromkeys(notes)))


def _hit(index: PictureIndex, picture: Picture | None, score: float, notes: list[str]) -> Hit | None:
    if picture is None:
        notes.append("the index was changed while it was searched: search again")
        return None
    path, name = locate(index, picture)
    try:
        status = os.stat(path)
    except OSError:
        notes.append(f"{name} is not there any more and was left out; index the folder again")
        return None
    if (status.st_size, status.st_mtime_ns) != (picture.size_bytes, picture.mtime_ns):
        notes.append(f"{name} has changed since it was indexed; index the folder again")
    return Hit(path, name, min(1.0, score))


def locate(index: PictureIndex, picture: Picture) -> tuple[Path, str]:
    """Return the path of a picture, and its name for Load Image."""
    path = index.pictures_folder / picture.path
    return path, host.data_places().name_of(path) or picture.path


def group_members(index: PictureIndex, group: Sequence[int]) -> list[tuple[Path, str, float]]:
    """Return path, name and cosine to the first member of each picture of a group that still exists."""
    rows = rows_at(index.blocks, group)
    scores = (rows @ rows[0]).clamp(max=1).tolist()
    pairs = zip(index.pictures(group), scores)
    return [(*locate(index, picture), score) for picture, score in pairs if picture is not None]


def as_images(found: Found, fit: str, longest_px: int) -> tuple[Image, list[tuple[Hit, Cell]], list[str]]:
    """Return all hits as one batch of the size of the first, a cell of a contact sheet for each, and notes."""
    batch: list[Image] = []
    cells: list[tuple[Hit, Cell]] = []
    notes: list[str] = []
    size, resized = (0, 0), 0
    for hit, picture in _readable((hit for hits in found.queries for hit in hits), notes):
        height, width = picture.shape[:2]
        size = size if batch else batch_size_px(width, height, longest_px)
        resized += (width, height) != size
        batch.append(fit_picture(picture, *size, fit))
        cells.append((hit, Cell(thumbnail(picture), (Path(hit.path).name, f"{hit.score:.3f}"))))
    if not batch:
        raise ValueError(f"none of the pictures that were found can be read: {'; '.join(notes)}")
    if resized:
        how = "scaled to fit, with black borders" if fit == "pad" else "scaled to fill it, and cut"
        notes.append(f"a batch has one size, here {size[0]} x {size[1]} px: {resized} of {len(batch)} were {how}")
    return as_batch(batch), cells, notes


def _readable(hits: Iterator[Hit], notes: list[str]) -> Iterator[tuple[Hit, Image]]:
    for hit in hits:
        try:
            yield hit, read_rgb(hit.path)
        except FileFormatError as error:
            notes.append(f"left out: {error}")


def hit_lines(titles: Sequence[str], queries: Sequence[Sequence[Hit]], readable: Container[Hit]) -> list[str]:
    """Return a line for each readable hit, below the title of its query where there are several queries."""
    lines = []
    for title, hits in zip(titles, queries):
        lines += [f"{title}:"] if len(titles) > 1 else []
        lines += [f"{hit.score:.3f} {hit.name}" for hit in hits if hit in readable]
    return lines


def groups_line(groups: int, copies: int, rows: int, threshold: float) -> str:
    """Return the result of a search for near-duplicates among `rows` pictures as a sentence."""
    if not groups:
        return f"no two of {rows} pictures are {threshold:.1%} alike or more"
    return f"{groups} group{'s' * (groups > 1)} in {rows} pictures, {copies} more than needed"


def small_cell(path: Path, lines: Sequence[str]) -> Cell:
    """Make a cell of a contact sheet; a picture that cannot be read becomes an empty cell with a line that says so."""
    try:
        return Cell(thumbnail(read_rgb(path)), tuple(lines))
    except FileFormatError:
        return Cell(None, (*lines[:-1], "cannot be read"))
