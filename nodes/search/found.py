"""The results of a search are pictures: read from disk, named as Load Image names them, with notes on lost ones."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from ...clip_core.features.search import cosines, nearest, reaches, rows_at
from ...drawing.contact_sheet import Cell, thumbnail
from ...drawing.fit import Batch, batch_size_px, picture_bytes
from ...files.contents import size_text
from ...files.decoding.ground import GROUNDS, WHITE
from ...files.errors import FileFormatError
from ...files.pictures import read_rgb
from ...index.reading import PictureIndex, open_index
from ...index.shards import Picture
from ..host import OnStep, host
from ..host.interface import Features, Image

Item = TypeVar("Item")
_SPARE = 16  # hits requested beyond those wanted; they replace pictures that are gone


INDEX = ("STRING", {"default": "pictures", "tooltip": "The name of an index that Index Folder made."})
MAX_SHEET_ROWS, MAX_SHEET_CELLS = 50, 96  # a sheet of so many cells in rows of their own has 350 MB at most
BATCH_BYTES = 400_000_000  # of the pictures of a search


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
            if len(hits) == count or not reaches(score, min_score):
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
        changed = index.has_changed(picture)
    except OSError:
        notes.append(f"{name} is not there any more and was left out; index the folder again")
        return None
    if changed:
        notes.append(f"{name} has changed since it was indexed; index the folder again")
    return Hit(path, name, score)


def locate(index: PictureIndex, picture: Picture) -> tuple[Path, str]:
    """Return the path of a picture, and its name for Load Image."""
    path = index.pictures_folder / picture.path
    return path, host.data_places().name_of(path) or picture.path


def group_members(index: PictureIndex, group: Sequence[int]) -> list[tuple[Path, str, float]]:
    """Return path, name and cosine to the first member of each picture of a group that still exists."""
    rows = rows_at(index.blocks, group)
    scores = cosines(rows, rows[0]).tolist()
    pairs = zip(index.pictures(group), scores)
    return [(*locate(index, picture), score) for picture, score in pairs if picture is not None]


@dataclass(frozen=True)
class Pictures:
    """The pictures of hits: a batch of the first of them, cells of a contact sheet, and what could not be read."""

    images: Image
    cells: Mapping[Hit, Cell]
    unread: frozenset[Path]
    notes: tuple[str, ...]


def ground_of(index: PictureIndex) -> str:
    """Return the ground that transparent pictures of an index were laid over: the first of several, white where an
    older version left transparency out.
    """
    return next((ground for ground in index.facts.ground.split(", ") if ground in GROUNDS), WHITE)


def as_images(hits: Sequence[Hit], on_sheet: Sequence[Hit], fit: str, longest_px: int, ground: str = WHITE) -> Pictures:
    """Return the hits as one batch of the size of the first, as many as BATCH_BYTES hold, and a cell for each hit that
    is to be on the sheet. Each file is decoded once, what is transparent in it laid over the ground.

    Raises:
        ValueError: none of the hits can be read.
    """
    batch: Batch | None = None
    size, resized = (0, 0), 0
    numbers: dict[Path, int] = {}
    thumbnails: dict[Path, Image | None] = {}
    notes: list[str] = []
    clear: list[Path] = []
    read = partial(_read, notes=notes, ground=ground, on_transparent=clear.append)
    for hit in hits:
        if batch is not None and batch.is_full:
            break
        if batch is not None and hit.path in numbers:
            batch.repeat(numbers[hit.path])
            continue
        picture = None if hit.path in thumbnails else read(hit)
        if picture is None:
            thumbnails[hit.path] = None
            continue
        height, width = picture.shape[:2]
        if batch is None:
            size = batch_size_px(width, height, longest_px)
            batch = Batch(min(len(hits), max(1, BATCH_BYTES // picture_bytes(*size))), *size, fit)
        numbers[hit.path] = len(batch.images)
        batch.put(picture)
        thumbnails[hit.path] = thumbnail(picture)
        resized += (width, height) != size
    if batch is None:
        raise ValueError(f"none of the pictures that were found can be read: {'; '.join(notes)}")
    cells = _cells(on_sheet, thumbnails, read)
    unread = frozenset(path for path, small in thumbnails.items() if small is None)
    notes += _batch_notes(batch, sum(hit.path not in unread for hit in hits), size, resized, fit)
    if clear:
        notes.append(
            f"{len(clear)} of the pictures found are transparent in part, and were laid over {ground}, as in the index"
        )
    return Pictures(batch.images, cells, unread, tuple(notes))


def _cells(
    hits: Sequence[Hit], thumbnails: dict[Path, Image | None], read: Callable[[Hit], Image | None]
) -> dict[Hit, Cell]:
    """A cell for each hit that can be read; puts into `thumbnails` what is not there yet."""
    cells = {}
    for hit in hits:
        if hit.path not in thumbnails:
            picture = read(hit)
            thumbnails[hit.path] = None if picture is None else thumbnail(picture)
        small = thumbnails[hit.path]
        if small is not None:
            cells[hit] = Cell(small, (hit.path.name, f"{hit.score:.3f}"))
    return cells


def _read(hit: Hit, notes: list[str], ground: str, on_transparent: Callable[[Path], object]) -> Image | None:
    try:
        return read_rgb(hit.path, ground, on_transparent)
    except FileFormatError as error:
        notes.append(f"left out: {error}")
        return None


def _batch_notes(batch: Batch, count: int, size: tuple[int, int], resized: int, fit: str) -> list[str]:
    notes, held = [], len(batch.images)
    if resized:
        how = "scaled to fit, with black borders" if fit == "pad" else "scaled to fill it, and cut"
        notes.append(f"a batch has one size, here {size[0]} x {size[1]} px: {resized} of {held} were {how}")
    if held < count:
        notes.append(
            f"the batch has the first {held} of {count} pictures, as more than {size_text(BATCH_BYTES)} are not made; "
            "names and scores are of all. Lower count or longest_px to have more of them"
        )
    return notes


def sheet_rows(titled: Iterable[tuple[str, Sequence[Item]]]) -> list[tuple[str, Sequence[Item]]]:
    """Return the rows that a contact sheet has room for: the first ones, the last of them cut short."""
    rows: list[tuple[str, Sequence[Item]]] = []
    room = MAX_SHEET_CELLS
    for title, items in titled:
        if room and len(rows) < MAX_SHEET_ROWS:
            rows.append((title, items[:room]))
            room -= len(rows[-1][1])
    return rows


def hit_lines(titles: Sequence[str], queries: Sequence[Sequence[Hit]], unread: Container[Path]) -> list[str]:
    """Return a line for each hit but those unread, below the title of its query where there are several queries."""
    lines = []
    for title, hits in zip(titles, queries):
        lines += [f"{title}:"] if len(titles) > 1 else []
        lines += [f"{hit.score:.3f} {hit.name}" for hit in hits if hit.path not in unread]
    return lines


def groups_line(groups: int, copies: int, rows: int, threshold: float) -> str:
    """Return the result of a search for near-duplicates among `rows` pictures as a sentence."""
    if not groups:
        return f"no two of {rows} pictures are {threshold:.1%} alike or more"
    return f"{groups} group{'s' * (groups > 1)} in {rows} pictures, {copies} more than needed"


def small_cell(path: Path, lines: Sequence[str]) -> Cell:
    """Make a cell of a contact sheet; a picture that cannot be read becomes an empty cell with a "-" below."""
    try:
        return Cell(thumbnail(read_rgb(path)), tuple(lines))
    except FileFormatError:
        return Cell(None, (*lines[:-1], "-"))
