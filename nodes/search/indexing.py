"""From a model and a folder to an index of its pictures; the node and `headless/embed.py` do it the same way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...clip_core.features.pictures import ImageEncoder, file_features, lowered
from ...clip_core.networks.precision import EXACT
from ...files.pictures import read_square
from ...index.reading import state
from ...index.scan import Scan, lists_the_same, scan
from ...index.table import Facts
from ...index.update import Embedded, Update
from ..clip import precision as precisions
from ..host import host
from ..host.shared.device_errors import sentences

_SHOWN = 10  # skipped pictures named on the node


def facts_of(clip_model, encoder: ImageEncoder, index: Path, pictures: Path, precision: str = EXACT) -> Facts:
    """What an index of this folder by this model says of itself."""
    seen = os.path.relpath(os.path.realpath(pictures), os.path.realpath(index)).replace(os.sep, "/")
    return Facts(
        host.model_key(clip_model),
        model_name(encoder),
        encoder.embed,
        seen,
        fingerprint=host.model_fingerprint(clip_model),
        precision=precision,
    )


def notes_on(known: Facts, here: Facts) -> list[str]:
    """What differs between how an index was made and how it is asked now, by what is the same model."""
    notes = []
    if known.model_key != here.model_key:
        notes.append(
            "this model was loaded in another type than the one that made the index, so its weights are "
            "rounded otherwise: cosines differ by that, at most by about 0.01 where one of them was bf16"
        )
    if known.precision != here.precision:
        notes.append(
            f"the index was made with precision {known.precision}, and the query with {here.precision}: "
            "cosines differ by the rounding of the coarser one"
        )
    return notes


def model_name(encoder: ImageEncoder) -> str:
    """A model in words; its key tells it from others of its size."""
    return f"a CLIP of {encoder.size_px} px and {encoder.embed} dimensions"


class Embedder:
    """How files become rows: decoded in threads beside the encoder. Called with paths, as `index.update.Embed`.
    The first picture is encoded in fp32 too, where the precision is another one.
    """

    def __init__(self, clip_model, batch: int, workers: int | None = None, precision: str = EXACT):
        self.encoder, self.precision = host.image_encoder(clip_model, precision), precision
        self._model, self._batch, self._workers = clip_model, batch, workers
        self._changes: dict[str, float] = {}

    def __call__(self, paths: Sequence[Path]) -> Iterator[Embedded]:
        with sentences("encoding pictures"):
            for part in file_features(self.encoder, paths, read_square, batch=self._batch, workers=self._workers):
                why = {place: said.removeprefix(f"{paths[place].name}: ") for place, said in part.unread.items()}
                if self.precision != EXACT and not self._changes and part.read:
                    first = paths[part.read[0]]
                    self._changes["picture"] = precisions.file_change(self._model, first, part.features[0])
                yield Embedded(part.read, part.features, why)

    def told(self) -> tuple[dict, list[str]]:
        """For the report: how many pictures at a time, the precision, and what it changed; with notes."""
        moved, notes = precisions.report_precision(self.precision, self.encoder, self._changes)
        fewer = lowered(self.encoder, self._batch)
        data = {"batch": min(self._batch, self.encoder.at_once), "precision": {"activations": self.precision}, **moved}
        return data, [*([fewer] if fewer else []), *notes]


def told(update: Update, seconds: float, embedder: Embedder) -> tuple[list[str], dict]:
    """The lines and the data of a report."""
    how, said = embedder.told()
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
        "rows": update.rows,
        "new": update.new,
        "changed": update.changed,
        "deleted": update.deleted,
        "unchanged": update.unchanged,
        "embedded": update.embedded,
        "seconds": round(seconds, 3),
        "pictures_per_second": speed,
        "skipped": [{"picture": path, "why": why} for path, why in left],
        **how,
        "notes": [*update.notes, *said],
    }
    return [*lines, *update.notes, *said], data


_scanned: dict[tuple[Path, bool], Scan] = {}  # the last one, asked for before a run, for that run


def fingerprint(which: str, below: str | None, index: str | None, recursive: bool | None) -> str | float:
    """Changes when the folder or its index does, for the host's question whether a node must run again; None is a
    linked input, for which everything that it could mean is looked at. NaN, never the same, where there is no folder.
    """
    try:
        places = host.data_places()
        folder, deep = places.pictures_folder(which, below or ""), recursive is not False
        found = scan(folder, recursive=deep, left_out=places.without_pictures())
    except (ValueError, OSError):
        return float("nan")
    _scanned.clear()
    if below is not None and recursive is not None:
        _scanned[folder, deep] = found
    files = sorted((picture.path, picture.size_bytes, picture.mtime_ns) for picture in found.pictures.values())
    seen = hashlib.sha256(repr(files).encode("utf-8", "surrogatepass"))
    return f"{seen.hexdigest()}:{index_fingerprint(index)}"


def just_scanned(folder: Path, recursive: bool) -> Scan | None:
    """What the folder holds, if it was scanned for `fingerprint` and lists the same files still; each scan once. Not to
    be asked for where other nodes may have written over pictures since.
    """
    found = _scanned.pop((folder, recursive), None)
    return found if found is not None and lists_the_same(folder, found) else None


def index_fingerprint(name: str | None) -> str:
    """Changes when the index does, or any index where the name is linked (None)."""
    places = host.data_places()
    try:
        return " ".join(state(places.index_folder(n)) for n in (places.index_names() if name is None else [name]))
    except ValueError:
        return "no name"
