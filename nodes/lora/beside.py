"""What is known of a LoRA without reading its weights: its header, and the notes and pictures that lie beside it."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...files.documents import read_json
from ...files.errors import FileFormatError
from ...files.pictures import small_jpeg
from ...files.sniff import regular_file_size, status_mark
from ...files.tensors import open_tensors
from ...lora.formats import header
from ...lora.models.families import family_of_tensors
from ..catalog import NOTES_BESIDE_A_LORA
from .files import ParsedFile

_PREVIEWS = tuple(f"{middle}.{kind}" for middle in (".preview", "") for kind in ("png", "jpg", "jpeg", "webp"))
_MOST_NOTE_BYTES, _MOST_TEXT_BYTES, _MOST_PICTURE_TEXT = 4_000_000, 20_000, 30_000_000
_PREVIEW_PX = 320


@dataclass(frozen=True)
class Known:
    """words: those that the file, or a note beside it, names as its trigger words; tags: the commonest of its training;
    text: the .txt beside it, where that is too long to be words.
    """

    title: str
    base_model: str
    words: tuple[str, ...]
    tags: tuple[str, ...]
    text: str = ""


def known_of(path: Path, metadata: Mapping[str, str], learned: tuple[str, ...] = ()) -> Known:
    """The facts in a header and in the notes beside the file; notes that cannot be read count as not there.

    learned: words whose embeddings the file holds.
    """
    notes = [header.facts_of_notes(_note(path, ending)) for ending in NOTES_BESIDE_A_LORA if ending != ".txt"]
    text = _text(path)
    named = [*header.named_words(metadata), *(word for note in notes for word in note["words"])]
    named += [*header.words_of_text(text), *learned]
    return Known(
        header.title(metadata) or _first(notes, "title"),
        header.base_model(metadata) or _first(notes, "base_model"),
        tuple(dict.fromkeys(named)),
        tuple(header.tags(metadata)),
        "" if header.words_of_text(text) else header.clean(text),
    )


def header_of(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """A file's header, and the words whose embeddings it holds. Raises FileFormatError or OSError."""
    with open_tensors(path) as file:
        metadata = dict(file.metadata)
        return metadata, tuple(header.clean(word) for word in file.shapes if metadata.get(word) == "<embed>")


def family_of(path: Path) -> str:
    """The family of models that a file was made for, by its modules' names; empty where they tell none.

    Raises:
        FileFormatError, OSError: the file cannot be read.
    """
    with open_tensors(path) as file:
        return family_of_tensors(file.shapes) or ""


def header_words(read: ParsedFile) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """The same of a file that has been read."""
    return read.metadata, tuple(read.file.embeddings)


def preview(path: Path) -> tuple[str, Callable[[], bytes]] | None:
    """A mark of a LoRA's preview, and what makes it as a small JPEG: a picture beside it, or the one in its header.

    A picture that is a link out of the file's own folder does not count. None where there is no preview.
    """
    folder, stem = path.parent, path.with_suffix("").name
    for ending in _PREVIEWS:
        picture = folder / (stem + ending)
        if picture.is_file() and picture.resolve().parent == folder.resolve():
            return _mark(picture), partial(small_jpeg, picture, _PREVIEW_PX)
    try:
        thumbnail = header_of(path)[0].get("modelspec.thumbnail", "")
    except (FileFormatError, OSError):
        return None
    kind, comma, coded = thumbnail[:_MOST_PICTURE_TEXT].partition(",")
    if not comma or not kind.startswith("data:image/") or not kind.endswith(";base64"):
        return None
    return _mark(path), lambda: small_jpeg(path, _PREVIEW_PX, _decoded(coded))


def _decoded(coded: str) -> bytes:
    try:
        return b64decode(coded, validate=False)
    except binascii.Error:
        return b""


def _mark(path: Path) -> str:
    return "-".join(f"{part:x}" for part in status_mark(path.stat()))


def _note(path: Path, ending: str) -> object:
    beside = path.with_suffix(ending)
    try:
        return read_json(beside) if regular_file_size(beside) <= _MOST_NOTE_BYTES else {}
    except FileFormatError:
        return {}


def _text(path: Path) -> str:
    beside = path.with_suffix(".txt")
    try:
        if regular_file_size(beside) > _MOST_TEXT_BYTES:
            return ""
        return beside.read_bytes().decode("utf-8-sig", "replace")
    except (FileFormatError, OSError):
        return ""


def _first(notes: list[dict], key: str) -> str:
    return next((str(note[key]) for note in notes if note[key]), "")
