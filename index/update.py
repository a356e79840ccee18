"""Bringing a picture index up to date with its folder: what is new or has changed is embedded, what is gone forgotten.

How pictures become features is a function handed in. What was done is kept every so many pictures, and whatever ends
the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .scan import FolderChanges, Scan, changes, scan
from .shards import Picture, ShardEntry
from .table import Seen
from .writing import IndexWriter, seen_now

COMMIT_PICTURES, COMMIT_S = 512, 20.0
_NO_NUMBERS = "the model gives no numbers (NaN) for it"


@dataclass(frozen=True)
class Embedded:
    """Features [n, E] of the pictures numbered `places` in the order of the request, and the reasons of those that
    were skipped.
    """

    places: Sequence[int]
    features: Tensor
    skipped: Mapping[int, str] = field(default_factory=dict)


Embed = Callable[[Sequence[Path]], Iterator[Embedded]]


@dataclass(frozen=True)
class Update:
    """The result of a run. `skipped` and `refused` are all pictures without a row now, with the reason."""

    new: int
    changed: int
    deleted: int
    unchanged: int
    rows: int
    embedded: int
    skipped: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def update(
    writer: IndexWriter,
    pictures: Path,
    embed: Embed,
    *,
    recursive: bool = True,
    left_out: Sequence[Path] = (),
    every: int = COMMIT_PICTURES,
    found: Scan | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Update:
    """Embed the new and changed pictures of a folder. `on_step(done, total)` may raise to stop: finished pictures
    are kept, and the index knows how many remain. `found` is a scan of the folder that was just made.

    Raises:
        FileFormatError: the folder cannot be listed, or the disk refused.
    """
    found = scan(pictures, recursive=recursive, left_out=left_out) if found is None else found
    differ = prepare(writer, found)
    embedded = _embed_all(writer, pictures, [*differ.new, *differ.changed], embed, every, on_step)
    return finish(writer, found, differ, embedded)


def prepare(writer: IndexWriter, found: Scan) -> FolderChanges:
    """Forget deleted pictures, and note how many pictures are to be embedded.

    A picture of the same size and time to which the disk has written since is the same if its content is. Of one that
    an older version read nothing more than size and time is known.
    """
    seen, now = writer.table.seen(), {}

    def is_same(picture: Picture) -> bool:
        before = seen.get(picture.path, Seen(0, ""))
        if before.changed_ns == picture.changed_ns:
            return True
        if before.changed_ns and before.content != seen_now(writer.pictures_folder, picture).content:
            return False
        now[picture.path] = Seen(picture.changed_ns, before.content)
        return True

    differ = changes(found, writer.table.pictures(), is_same)
    writer.forget(differ.gone)
    if now:
        with writer.table.changing():
            writer.table.set_seen(now)
    writer.set_remaining(len(differ.new) + len(differ.changed))
    return differ


def finish(writer: IndexWriter, found: Scan, differ: FolderChanges, embedded: int) -> Update:
    """Tidy up after the last picture, and sum up the index."""
    writer.set_remaining(0)
    writer.tidy()
    return Update(
        new=len(differ.new),
        changed=len(differ.changed),
        deleted=len(differ.gone),
        unchanged=differ.unchanged,
        rows=sum(writer.table.live().values()),
        embedded=embedded,
        skipped=tuple(writer.table.skipped()),
        refused=tuple(sorted(found.refused.items())),
        notes=tuple(writer.notes),
    )


def entries_of(pictures: Sequence[Picture], embedded: Embedded, start: int) -> tuple[list[ShardEntry], Tensor]:
    """What became of each picture, rows numbered from `start`, and the rows: those without numbers are skipped."""
    sound = embedded.features.isfinite().all(1)
    entries = [ShardEntry(pictures[place], None, why) for place, why in embedded.skipped.items()]
    for place, good in zip(embedded.places, sound.tolist()):
        entries.append(ShardEntry(pictures[place], start if good else None, "" if good else _NO_NUMBERS))
        start += good
    return entries, embedded.features[sound]


def _embed_all(
    writer: IndexWriter,
    folder: Path,
    todo: Sequence[Picture],
    embed: Embed,
    every: int,
    on_step: Callable[[int, int], None] | None,
) -> int:
    entries: list[ShardEntry] = []
    features: list[Tensor] = []
    done, rows, saved = 0, 0, time.monotonic()

    def keep() -> None:
        nonlocal entries, features, rows, saved
        if entries:
            writer.commit(entries, torch.cat(features), len(todo) - done)
        entries, features, rows, saved = [], [], 0, time.monotonic()

    try:
        for batch in embed([folder / picture.path for picture in todo]) if todo else ():
            new, kept = entries_of(todo, batch, rows)
            entries += new
            features.append(kept)
            rows, done = rows + len(kept), done + len(new)
            if len(entries) >= every or time.monotonic() - saved > COMMIT_S:
                keep()
            if on_step is not None:
                on_step(done, len(todo))
    finally:
        keep()
    return done
