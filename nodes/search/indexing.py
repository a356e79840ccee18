"""An index is made from a model and a folder of pictures; the node and `headless/embed.py` share these functions."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from ...clip_core.features.pictures import ImageEncoder, file_features, lowered
from ...clip_core.networks.precision import EXACT
from ...files.decoding.ground import WHITE
from ...files.pictures import read_square
from ...index.reading import PictureIndex, pictures_state, state
from ...index.scan import Scan, lists_the_same, scan
from ...index.table import Facts
from ...index.update import Embedded, Update
from ...index.writing import check_model, is_made_by
from ..clip import precision as precisions
from ..host import host
from ..host.interface import Looking
from ..host.shared.device_errors import sentences

_SHOWN = 10  # skipped pictures named on the node


def facts_of(
    clip_model: Looking,
    encoder: ImageEncoder,
    index: Path,
    pictures: Path,
    precision: str = EXACT,
    ground: str = WHITE,
) -> Facts:
    """Return the facts that an index of the folder `pictures`, made by this model, stores about itself."""
    below = os.path.relpath(os.path.realpath(pictures), os.path.realpath(index)).replace(os.sep, "/")
    return Facts(
        host.model_key(clip_model),
        model_name(encoder),
        encoder.embed,
        below,
        fingerprint=host.model_fingerprint(clip_model),
        precision=precision,
        ground=ground,
    )


def check_and_note(index: PictureIndex, clip_model: Looking, precision: str) -> list[str]:
    """Refuse a model that did not make the index; return notes on how the same model was loaded or run otherwise then.

    The encoder, whose making loads the model, is asked for its name only where the model is refused.

    Raises:
        FileFormatError: another model made the index.
    """
    known, key = index.facts, host.model_key(clip_model)
    if not is_made_by(known, key, host.model_fingerprint(clip_model)):
        encoder = host.image_encoder(clip_model)
        check_model(index.folder, known, facts_of(clip_model, encoder, index.folder, index.pictures_folder, precision))
    notes = []
    if known.model_key != key:
        notes.append(
            "this model was loaded in another type than the one that made the index, so its weights are "
            "rounded otherwise: cosines differ by that, at most by about 0.01 where one of them was bf16"
        )
    if known.precision != precision:
        notes.append(
            f"the index was made with precision {known.precision}, and the query with {precision}: "
            "cosines differ by the rounding of the coarser one"
        )
    return notes


def model_name(encoder: ImageEncoder) -> str:
    """Describe a model in words; only its key tells models of one size apart."""
    return f"a CLIP of {encoder.size_px} px and {encoder.embed} dimensions"


class Embedder:
    """Turns picture files into rows of features, an `index.update.Embed`; threads decode files while the encoder works.

    Where the precision is not fp32, the first picture is encoded in fp32 too, to measure what the precision changes.
    """

    def __init__(
        self,
        clip_model: Looking,
        batch: int,
        workers: int | None = None,
        precision: str = EXACT,
        ground: str = WHITE,
    ):
        self.encoder, self.precision = host.image_encoder(clip_model, precision), precision
        self._model, self._batch, self._workers, self._ground = clip_model, batch, workers, ground
        self._transparent: list[Path] = []
        self._changes: dict[str, float] = {}

    def __call__(self, paths: Sequence[Path]) -> Iterator[Embedded]:
        read = partial(read_square, ground=self._ground, on_transparent=self._transparent.append)
        with sentences("encoding pictures"):
            for part in file_features(self.encoder, paths, read, batch=self._batch, workers=self._workers):
                why = {place: said.removeprefix(f"{paths[place].name}: ") for place, said in part.unread.items()}
                if self.precision != EXACT and not self._changes and part.read:
                    first, row = paths[part.read[0]], part.features[0]
                    self._changes["picture"] = precisions.file_change(self._model, first, row, self._ground)
                yield Embedded(part.read, part.features, why)

    def report(self) -> tuple[dict, list[str]]:
        """Return the batch size, the precision and its effect as data, and notes on them."""
        moved, notes = precisions.report_precision(self.precision, self.encoder, self._changes)
        fewer = lowered(self.encoder, self._batch)
        clear = len(self._transparent)
        data = {
            "batch": min(self._batch, self.encoder.at_once),
            "precision": {"activations": self.precision},
            "ground": self._ground,
            "transparent": clear,
            **moved,
        }
        laid = f"{clear} of the pictures encoded now are transparent in part, and were laid over {self._ground}"
        return data, [*([fewer] if fewer else []), *([laid] if clear else []), *notes]


def report_of(update: Update, seconds: float, embedder: Embedder, found: Scan) -> tuple[list[str], dict]:
    """Return the report of a run: its lines and its data."""
    how, said = embedder.report()
    speed = round(update.embedded / seconds, 1) if seconds > 0 else 0.0
    lines = [
        f"{update.rows} pictures can be searched now",
        f"{update.new} new, {update.changed} changed, {update.unchanged} as before, {update.deleted} gone since",
    ]
    if update.skipped:
        lines.append(f"{len(update.skipped)} of these cannot be read and were left out")
    if update.embedded:
        lines.append(f"{update.embedded} were encoded in {seconds:.1f} s, {speed:g} a second")
    for suffix, count in found.unsupported.items():
        lines.append(f"{count} file{'s' * (count > 1)} {suffix} not read: this kind is not supported")
    rest = {suffix: count for suffix, count in sorted(found.others.items()) if suffix not in found.unsupported}
    if rest:
        kinds = ", ".join(suffix or "none" for suffix in list(rest)[:_SHOWN])
        lines.append(f"{sum(rest.values())} other files are no pictures by the ending of their names ({kinds})")
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
        "not_supported": found.unsupported,
        "no_pictures": rest,
        **how,
        "notes": [*update.notes, *said],
    }
    return [*lines, *update.notes, *said], data


_scanned: dict[tuple[Path, bool], Scan] = {}  # the latest scan, made for `fingerprint` before a run, kept for that run


def fingerprint(which: str, below: str | None, index: str | None, recursive: bool | None) -> str | float:
    """Return a mark that changes when the folder or its index does, so that the host knows whether to run a node again.

    An argument is None where its input is linked: then every value that it could have counts. Without a folder the mark
    is NaN, which is equal to nothing.
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
    files = sorted(
        (picture.path, picture.size_bytes, picture.mtime_ns, picture.changed_ns) for picture in found.pictures.values()
    )
    digest = hashlib.sha256(repr(files).encode("utf-8", "surrogatepass"))
    return f"{digest.hexdigest()}:{index_fingerprint(index)}"


def scan_of(folder: Path, recursive: bool, *, again: bool) -> Scan:
    """Return what the folder holds: the scan that `fingerprint` made of it, once, if the folder still lists the same
    files, or a new one. `again`: a new one in any case, as another node may have written a picture over since.
    """
    found = _scanned.pop((folder, recursive), None)
    if found is not None and not again and lists_the_same(folder, found):
        return found
    return scan(folder, recursive=recursive, left_out=host.data_places().without_pictures())


def results_fingerprint(name: str | None) -> str:
    """Return a mark that changes when the index does, or one of the pictures that can be found in it; where the name is
    linked (None), any index and its pictures.
    """
    places = host.data_places()
    try:
        names = places.index_names() if name is None else [name]
        states = [pictures_state(places.index_folder(name)) for name in names]
    except ValueError:
        return "no name"
    return " ".join([index_fingerprint(name), *states])


def index_fingerprint(name: str | None) -> str:
    """Return a mark that changes when the index does; where the name is linked (None), when any index does."""
    places = host.data_places()
    try:
        return " ".join(state(places.index_folder(n)) for n in (places.index_names() if name is None else [name]))
    except ValueError:
        return "no name"
