"""From a model and a folder to an index of its pictures; the node and `headless/embed.py` do it the same way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

from ..clip_core.image_features import ImageEncoder, file_features
from ..files.pictures import read_square
from ..index.reading import state
from ..index.scan import scan
from ..index.table import Facts
from ..index.update import Embed, Embedded, Update
from .host import host

_SHOWN = 10  # skipped pictures named on the node


def facts_of(clip_model, encoder: ImageEncoder, index: Path, pictures: Path) -> Facts:
    """What an index of this folder by this model says of itself."""
    seen = os.path.relpath(os.path.realpath(pictures), os.path.realpath(index)).replace(os.sep, "/")
    return Facts(host.model_key(clip_model), model_name(encoder), encoder.embed, seen)


def model_name(encoder: ImageEncoder) -> str:
    """A model in words; its key tells it from others of its size."""
    return f"a CLIP of {encoder.size_px} px and {encoder.embed} dimensions"


def embed_with(encoder: ImageEncoder, batch: int, workers: int | None = None) -> Embed:
    """How files become rows: decoded in threads beside the encoder."""

    def embed(paths: Sequence[Path]) -> Iterator[Embedded]:
        for part in file_features(encoder, paths, read_square, batch=batch, workers=workers):
            why = {place: said.removeprefix(f"{paths[place].name}: ") for place, said in part.unread.items()}
            yield Embedded(part.read, part.features, why)

    return embed


def told(update: Update, seconds: float) -> tuple[list[str], dict]:
    """The lines and the data of a report."""
    speed = round(update.embedded / seconds, 1) if seconds > 0 else 0.0
    lines = [
        f"{update.rows} pictures in the index",
        f"{update.new} new, {update.changed} changed, {update.deleted} deleted, {update.unchanged} unchanged",
    ]
    if update.embedded:
        lines.append(f"{update.embedded} embedded in {seconds:.1f} s, {speed:g} a second")
    left = [*update.skipped, *update.refused]
    lines += [f"skipped: {path}: {why}" for path, why in left[:_SHOWN]]
    if len(left) > _SHOWN:
        lines.append(f"and {len(left) - _SHOWN} more skipped; the JSON lists them all")
    data = {
        "rows": update.rows, "new": update.new, "changed": update.changed, "deleted": update.deleted,
        "unchanged": update.unchanged, "embedded": update.embedded, "seconds": round(seconds, 3),
        "pictures_per_second": speed, "skipped": [{"picture": path, "why": why} for path, why in left],
        "notes": list(update.notes),
    }  # fmt: skip
    return [*lines, *update.notes], data



def fingerprint(which: str, below: str | None, index: str | None, recursive: bool | None) -> str | float:
    """Changes when the folder or its index does, for the host's question whether a node must run again; None is a
    linked input, for which everything that it could mean is looked at. NaN, never the same, where there is no folder.
    """
    try:
        places = host.data_places()
        found = scan(places.pictures_folder(which, below or ""), recursive=recursive is not False,
                     left_out=places.without_pictures())
    except (ValueError, OSError):
        return float("nan")
    seen = hashlib.sha256(repr(sorted(map(astuple, found.pictures.values()))).encode("utf-8", "surrogatepass"))
    return f"{seen.hexdigest()}:{index_fingerprint(index)}"


def index_fingerprint(name: str | None) -> str:
    """Changes when the index does, or any index where the name is linked (None)."""
    places = host.data_places()
    try:
        return " ".join(state(places.index_folder(n)) for n in (places.index_names() if name is None else [name]))
    except ValueError:
        return "no name"
