"""Writing a picture index: one process at a time, valid after a crash at any moment.

A shard is on the disk, whole, before the table names it; the table changes in one transaction; a file that the table
does not name (any more) is taken up or removed by the next writer, or put aside where it cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ..files.errors import FileFormatError
from ..files.sniff import content_mark
from .model import is_same
from .shards import PATTERN, Picture, ShardEntry, map_rows, read_entries, rows_and_width, write_shard
from .table import TABLE, Facts, Seen, Shard, Table, writers_lock

MERGED_ROWS = 65_536  # of a shard put together from small ones or from ones with dead rows
_SMALL_ROWS, _SMALL_SHARDS = MERGED_ROWS // 4, 16  # more shards than that below that size are put together
_DEAD_SHARE, _DEAD_ROWS = 0.2, 256
ASIDE = "unread_"  # before the name of a file that no table names and that cannot be read


@dataclass
class IndexWriter:
    """An index that may be changed; made by `writing`."""

    folder: Path
    facts: Facts
    table: Table
    notes: list[str] = field(default_factory=list)  # what was repaired

    @property
    def pictures_folder(self) -> Path:
        """The folder of the pictures."""
        return Path(os.path.realpath(self.folder / self.facts.folder))

    def commit(self, entries: Sequence[ShardEntry], features: Tensor, remaining: int) -> None:
        """Keep these pictures, [n, E] for those with a row; all or none of them, on the disk for good."""
        name = write_shard(self.folder, entries, features, self.facts.model_key) if len(features) else None
        seen = {entry.picture.path: seen_now(self.pictures_folder, entry.picture) for entry in entries}
        with self.table.changing():
            self.table.set_seen(seen)
            number = self.table.add_shard(name, len(features)) if name else None
            self.table.put(entries, number)
            self.table.set_remaining(remaining)
            if name:
                self._set_precision()

    def forget(self, paths: Sequence[str]) -> None:
        """Drop pictures that are not there any more."""
        if paths:
            with self.table.changing():
                self.table.forget(paths)

    def set_remaining(self, count: int) -> None:
        """How many pictures are still to do; nothing is written where that is known."""
        known = self.table.facts()
        if known is None or known.remaining != count:
            with self.table.changing():
                self.table.set_remaining(count)

    def adopt(self) -> int:
        """Take up shards that no table names: another process made them, or this one died before it could say so.
        Returns how many pictures that were. What holds no news is removed; what cannot be read is put aside, since it
        may be worth something to whoever wrote it (a later version of this pack, say), and that is noted."""
        known = {shard.name for shard in self.table.shards()}
        stray = [path for path in sorted(self.folder.glob(PATTERN)) if path.name not in known]
        pictures, taken = self.table.pictures() if stray else {}, 0
        for path in stray:
            try:
                rows, width = rows_and_width(path)
                entries = read_entries(path, self.facts.model_key) if width == self.facts.width else []
            except FileFormatError as error:
                self.notes.append(_put_aside(path, error))
                continue
            entries = [e for e in entries if _is_news(e, pictures) and (e.row is None or 0 <= e.row < rows)]
            if entries:
                with self.table.changing():
                    self.table.put(entries, self.table.add_shard(path.name, rows))
                    self._set_precision()
                pictures |= {e.picture.path: e.picture for e in entries}
                taken += len(entries)
            else:
                _remove(path)
        return taken

    def _set_precision(self) -> None:
        """Remember that there are rows of this run's precision and ground. Inside `changing()`."""
        facts = self.table.facts() or self.facts
        if self._is_new("precision", facts.precision, self.facts.precision):
            self.notes.append(
                f"this index was made with {facts.precision}, and what is new in it with {self.facts.precision}: "
                "cosines of the two differ by the rounding of the coarser one"
            )
        if self._is_new("ground", facts.ground, self.facts.ground):
            self.notes.append(
                f"transparent pictures of this index lie on the ground {facts.ground}, and those that are new in it on "
                f"{self.facts.ground}; index anew under another name to have all on one"
            )

    def _is_new(self, name: str, known: str, here: str) -> bool:
        if here in known.split(", "):
            return False
        self.table.set_fact(name, f"{known}, {here}")
        return True

    def tidy(self) -> int:
        """Put small shards together and leave dead rows out, where there are many; returns how many shards went."""
        live = self.table.live()
        shards = self.table.shards()
        dead = [s for s in shards if s.rows - live.get(s.number, 0) > max(_DEAD_ROWS, _DEAD_SHARE * s.rows)]
        small = [s for s in shards if live.get(s.number, 0) < _SMALL_ROWS]
        empty = [s for s in shards if not live.get(s.number)]
        chosen = {s.number: s for s in [*dead, *(small if len(small) > _SMALL_SHARDS else ()), *empty]}
        group: list[Shard] = []
        for shard in chosen.values():
            if group and sum(live.get(s.number, 0) for s in [*group, shard]) > MERGED_ROWS:
                self._merge(group)
                group = []
            group.append(shard)
        if group:
            self._merge(group)
        return len(chosen)

    def _merge(self, shards: Sequence[Shard]) -> None:
        entries, parts, start = [], [], 0
        for shard in shards:
            old = self.table.entries_of(shard.number)
            parts.append(map_rows(self.folder / shard.name)[[entry.row for entry in old]])
            entries += [ShardEntry(entry.picture, start + place) for place, entry in enumerate(old)]
            start += len(old)
        name = write_shard(self.folder, (), torch.cat(parts), self.facts.model_key) if entries else None
        with self.table.changing():
            for shard in shards:
                self.table.forget_shard(shard.number)
            if name:
                self.table.put(entries, self.table.add_shard(name, len(entries)))
        for shard in shards:
            _remove(self.folder / shard.name)

    def _check_shards(self) -> None:
        """Forget rows whose shard is gone or damaged: their pictures are then new."""
        for shard in self.table.shards():
            try:
                sound = rows_and_width(self.folder / shard.name) == (shard.rows, self.facts.width)
            except FileFormatError:
                sound = False
            if not sound:
                lost = self.table.live().get(shard.number, 0)
                with self.table.changing():
                    self.table.forget_shard(shard.number)
                self.notes.append(f"{shard.name} was missing or damaged: its {lost} pictures are indexed anew")


def seen_now(folder: Path, picture: Picture) -> Seen:
    """How a picture is that has been read as it was scanned; its content only where it was not written to since."""
    path = folder / picture.path
    try:
        before = os.stat(path).st_ctime_ns == picture.changed_ns
        return Seen(picture.changed_ns, content_mark(path) if before else "")
    except (OSError, ValueError):
        return Seen(picture.changed_ns, "")


def _is_news(entry: ShardEntry, known: Mapping[str, Picture]) -> bool:
    """Not for what an older shard says, one that should have been removed."""
    old = known.get(entry.picture.path)
    return old is None or entry.picture.mtime_ns > old.mtime_ns


@contextmanager
def writing(folder: Path, facts: Facts) -> Iterator[IndexWriter]:
    """The index in this folder, made if there is none, with whatever a crash left behind put right.

    Raises:
        FileFormatError: it is of another model or another folder (both are named), being written by another process,
            or damaged.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFormatError(folder, f"an index cannot be made there: {error.strerror or error}") from error
    with writers_lock(folder):
        table = Table(folder / TABLE, create=True)
        try:
            with table.errors_as_sentences():
                known = table.facts()
                if known is None:
                    with table.changing():
                        table.set_facts(facts)
                else:
                    check_model(folder, known, facts)
                    _check_folder(folder, known, facts)
                    if facts.fingerprint and not known.fingerprint:  # an older version made it, of this very model
                        with table.changing():
                            table.set_fact("fingerprint", facts.fingerprint)
                    facts = replace(facts, model_key=known.model_key)  # the name that its shards go by
                writer = IndexWriter(folder, facts, table)
                for part in folder.glob(f".{PATTERN}.*.part"):
                    _remove(part)
                writer._check_shards()
                writer.adopt()
                yield writer
        finally:
            table.close()


def is_made_by(known: Facts, model_key: str, fingerprint: str) -> bool:
    """Whether this model made the index: its weights are equal bit by bit, or equal but for the rounding of the type in
    which they were loaded. Indexes of older versions have no fingerprint and know the first kind of equality only.
    """
    return known.model_key == model_key or is_same(known.fingerprint, fingerprint)


def check_model(folder: Path, known: Facts, here: Facts) -> None:
    """Refuse an index that another model made; see `is_made_by`.

    Raises:
        FileFormatError: another model made the index.
    """
    if is_made_by(known, here.model_key, here.fingerprint):
        return
    if known.fingerprint or not here.fingerprint:
        why = "connect that model, or use another index"
    else:
        why = (
            "connect that model. If it is the same one: an older version made this index, which knows a model only "
            "as it was loaded then, so load it with the dtype of that time, or index anew under another name"
        )
    raise FileFormatError(
        folder,
        f"this index was made with {known.model_name} ({known.model_key[:12]}), but the model here is "
        f"{here.model_name} ({here.model_key[:12]}); {why}",
    )


def _check_folder(folder: Path, known: Facts, facts: Facts) -> None:
    if known.folder != facts.folder:
        raise FileFormatError(
            folder,
            f"this index is of the folder {known.folder}, but {facts.folder} (both seen from the index) is to "
            "be indexed; use another index for it",
        )


def _put_aside(path: Path, why: FileFormatError) -> str:
    """Rename a shard that cannot be read, so that no writer takes it for one of its own; the sentence about it."""
    aside = path.with_name(ASIDE + path.name)
    try:
        os.replace(path, aside)
    except OSError as error:
        return f"{why}; it stays where it is, as it could not be renamed: {error.strerror or error}"
    return f"{why}; it was put aside as {aside.name}: remove it if nothing needs it"


def _remove(path: Path) -> None:
    try:
        os.unlink(path)
    except OSError:
        return  # open elsewhere under Windows, or gone: the next writer removes what is left
