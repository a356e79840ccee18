"""A workflow read from its file: JSON, or a PNG or WebP picture that carries one as ComfyUI writes it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from ...files.documents import parse_json, read_json
from ...files.errors import FileFormatError
from .canvas.foreign import foreign_picture, refuse_foreign
from .graph import WorkflowError

_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_BYTES = 64 << 20  # of text; a picture may be larger
_LARGEST_FILE = 1 << 30


def read_workflow(path: Path) -> dict:
    """The workflow in a file: what the canvas saved where a picture has both, else the API form.

    Raises:
        FileFormatError: the file cannot be read, or holds no JSON object.
        WorkflowError: there is no workflow in it; the sentence names the program that made it, if known.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(12)
    except OSError:
        return read_json(path)  # which says what is wrong
    if not start:
        raise FileFormatError(path, "it is empty: it was not saved, or its download was cut short")
    if start.startswith(_PNG):
        return _from_texts(path, dict(_png_texts(_whole(path))))
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return _from_texts(path, _webp_texts(_whole(path)))
    if start.startswith((b"\xff\xd8\xff", b"GIF8")) or start[4:8] == b"ftyp":
        raise WorkflowError(f"{path.name} is no workflow: pictures that carry one are PNG and WebP files")
    found = read_json(path)
    refuse_foreign(found)
    return found


def _whole(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST_FILE:
        raise FileFormatError(path, "it has more than 1 GiB, which no picture with a workflow needs")
    return path.read_bytes()


def _from_texts(path: Path, texts: dict[str, str]) -> dict:
    damaged: FileFormatError | None = None
    for name in ("workflow", "prompt"):
        if not texts.get(name):
            continue
        try:
            found = parse_json(texts[name])
        except ValueError as error:
            damaged = damaged or FileFormatError(path, f"its {name} is not valid JSON ({error}): the file is damaged")
            continue
        if isinstance(found, dict):
            return found
    if damaged is not None:
        raise damaged
    raise WorkflowError(
        f"{path.name} carries no workflow: "
        + (foreign_picture(texts) or "it was saved without one, or a program on the way removed it")
    )


def _png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    """The texts of a PNG: tEXt, zTXt and iTXt chunks; what is damaged is passed over."""
    place = len(_PNG)
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 8 : place + 8 + length]
        place += 12 + length
        name, _, rest = body.partition(b"\0")
        if kind == b"tEXt":
            yield name.decode("latin-1"), _decoded(rest)
        elif kind == b"zTXt":
            yield name.decode("latin-1"), _decoded(_inflated(rest[1:]))
        elif kind == b"iTXt" and len(rest) > 2:
            text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
            yield name.decode("latin-1"), _decoded(_inflated(text) if rest[0] else text)


def _webp_texts(data: bytes) -> dict[str, str]:
    """The texts in the EXIF of a WebP, which ComfyUI writes as "workflow:{...}" and "prompt:{...}"."""
    place = 12
    while place + 8 <= len(data):
        kind, length = struct.unpack("<4sI", data[place : place + 8])
        if kind == b"EXIF":
            return dict(_exif_texts(data[place + 8 : place + 8 + length].removeprefix(b"Exif\0\0")))
        place += 8 + length + length % 2
    return {}


def _exif_texts(exif: bytes) -> Iterator[tuple[str, str]]:
    """name:text of the ASCII entries of the first directory."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return
    (start,) = struct.unpack(order + "I", exif[4:8])
    if start + 2 > len(exif):
        return
    (count,) = struct.unpack(order + "H", exif[start : start + 2])
    for place in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        _, kind, length, offset = struct.unpack(order + "HHII", exif[place : place + 12])
        if kind == 2 and length > 4:
            name, colon, text = _decoded(exif[offset : offset + length].rstrip(b"\0")).partition(":")
            if colon:
                yield name.strip().lower(), text


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MOST_BYTES)
    except zlib.error:
        return b""


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
