"""The SQLite table of a picture index: which file has which row of which shard, and what the index is of.

A rollback journal and full synchronisation, not a write-ahead log: commits are few and large, one file holds
everything after each of them, and it works where a folder is shared between machines. The writers' lock is an
exclusive transaction on an empty database beside it, which every system lets go when the process dies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..files.errors import FileFormatError
from .shards import Picture, ShardEntry

TABLE, LOCK = "index.sqlite", "writer.lock"
VERSION = 1
_APPLICATION = 0x43564C49  # "CVLI"
_WAIT_S = 60.0  # for a reader or a writer that is in the middle of a transaction
_SEEN = (  # beside the tables of version 1, whose programs do not look at it
    "CREATE TABLE IF NOT EXISTS seen (path TEXT PRIMARY KEY, changed_ns INTEGER NOT NULL, content TEXT NOT NULL) "
    "WITHOUT ROWID"
)
_SCHEMA = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE shards (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, rows INTEGER NOT NULL, "
    "live INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE pictures (path TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, "
    "shard INTEGER REFERENCES shards (id), row INTEGER, skipped TEXT NOT NULL) WITHOUT ROWID",
    "CREATE UNIQUE INDEX places ON pictures (shard, row) WHERE shard IS NOT NULL",
    "CREATE INDEX skips ON pictures (path) WHERE shard IS NULL",
    "CREATE TRIGGER one_more AFTER INSERT ON pictures WHEN new.shard IS NOT NULL "
    "BEGIN UPDATE shards SET live = live + 1 WHERE id = new.shard; END",
    "CREATE TRIGGER one_less AFTER DELETE ON pictures WHEN old.shard IS NOT NULL "
    "BEGIN UPDATE shards SET live = live - 1 WHERE id = old.shard; END",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)


@dataclass(frozen=True)
class Facts:
    """The facts an index stores about itself. `folder` is the path of the pictures, relative to the index's own
    folder.
    """

    model_key: str
    model_name: str
    width: int
    folder: str
    remaining: int = 0  # pictures that were still to do when the last run was stopped
    fingerprint: str = ""  # of the model, see model.py; "" where an older version made the index
    precision: str = "fp32"  # of the activations that made the rows; several, as "fp32, fp16", where they differ
    ground: str = "none"  # under transparent pictures; "none" where an older version left transparency out


@dataclass(frozen=True)
class Seen:
    """How a picture was when it was read: when the disk last wrote to it, and a mark of its content; "" unknown."""

    changed_ns: int
    content: str


@dataclass(frozen=True)
class Shard:
    number: int
    name: str
    rows: int


class Table:
    """An open table. Call every method that changes it inside `changing()`, which commits all of it or nothing."""

    def __init__(self, path: Path, *, create: bool = False):
        """Raises FileFormatError: not there, no index, damaged, or of a later version."""
        import sqlite3

        self.path = path
        self._errors = sqlite3.Error
        if not create and not path.is_file():
            raise FileFormatError(path, "there is no index here")
        try:
            self._db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
        except sqlite3.Error as error:
            raise FileFormatError(path, f"cannot be opened: {error}") from error
        try:
            with self.errors_as_sentences():
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA recursive_triggers = ON")  # so that a row replaced counts as one less
                self._check(create)
        except FileFormatError:
            self.close()
            raise

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def errors_as_sentences(self) -> Iterator[None]:
        """Turn SQLite's errors into sentences."""
        try:
            yield
        except (self._errors, UnicodeError) as error:  # a damaged table can make even SQLite's message unreadable
            raise FileFormatError(
                self.path,
                f"the table of this index cannot be used ({error}); if it is damaged, delete the index's "
                f"folder {self.path.parent.name} and index again",
            ) from error

    @contextmanager
    def changing(self) -> Iterator[None]:
        with self.errors_as_sentences():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read a consistent state: no writer's commit comes between the reads inside."""
        with self.errors_as_sentences():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    def _check(self, create: bool) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if create and not tables and not version:
            with self.changing():
                for statement in _SCHEMA:
                    self._db.execute(statement)
                self._db.execute(_SEEN)
        elif not tables:
            raise FileFormatError(self.path, "the index is empty: nothing was ever written to it; index a folder first")
        elif application != _APPLICATION:
            raise FileFormatError(self.path, "this is a database of another program, not the table of an index")
        elif version != VERSION:
            raise FileFormatError(
                self.path,
                f"this index has format {version}, known here is {VERSION}; update the "
                "node pack, or index into another name",
            )
        elif create:
            self._db.execute(_SEEN)

    def facts(self) -> Facts | None:
        """Return the facts; None before the first `set_facts`."""
        found = dict(self._db.execute("SELECT name, value FROM facts"))
        if not found:
            return None
        try:
            return Facts(
                found["model_key"],
                found["model_name"],
                int(found["width"]),
                found["folder"],
                int(found["remaining"]),
                found.get("fingerprint", ""),
                found.get("precision", "fp32"),
                found.get("ground", "none"),
            )
        except (KeyError, ValueError) as error:
            raise FileFormatError(
                self.path, "what this index is of cannot be read; delete its folder and index again"
            ) from error

    def set_facts(self, facts: Facts) -> None:
        rows = [(name, str(value)) for name, value in vars(facts).items()]
        self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    def set_fact(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def set_remaining(self, count: int) -> None:
        self._db.execute("UPDATE facts SET value = ? WHERE name = 'remaining'", (str(count),))

    def shards(self) -> list[Shard]:
        return [Shard(*row) for row in self._db.execute("SELECT id, name, rows FROM shards ORDER BY id")]

    def add_shard(self, name: str, rows: int) -> int:
        """Add a shard; returns its number."""
        self._db.execute("INSERT INTO shards (name, rows) VALUES (?, ?)", (name, rows))
        return self._db.execute("SELECT last_insert_rowid()").fetchone()[0]

    def forget_shard(self, number: int) -> None:
        """Delete the shard and all its rows."""
        self._db.execute("DELETE FROM pictures WHERE shard = ?", (number,))
        self._db.execute("DELETE FROM shards WHERE id = ?", (number,))

    def put(self, entries: Iterable[ShardEntry], shard: int | None) -> None:
        """Store new pictures, or other rows of known ones."""
        self._db.executemany(
            "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?)",
            (
                (
                    e.picture.path,
                    e.picture.size_bytes,
                    e.picture.mtime_ns,
                    None if e.row is None else shard,
                    e.row,
                    e.skipped,
                )
                for e in entries
            ),
        )

    def forget(self, paths: Iterable[str]) -> None:
        gone = [(path,) for path in paths]
        self._db.executemany("DELETE FROM pictures WHERE path = ?", gone)
        self._db.executemany("DELETE FROM seen WHERE path = ?", gone)

    def seen(self) -> dict[str, Seen]:
        """Return how each picture was when it was read, by path; not all are known."""
        return {row[0]: Seen(*row[1:]) for row in self._db.execute("SELECT path, changed_ns, content FROM seen")}

    def seen_of(self, path: str) -> Seen:
        """Return how one picture was when it was read; of an index that an older version wrote nothing is known."""
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'seen'").fetchone():
            return Seen(0, "")
        found = self._db.execute("SELECT changed_ns, content FROM seen WHERE path = ?", (path,)).fetchone()
        return Seen(*found) if found else Seen(0, "")

    def set_seen(self, seen: Mapping[str, Seen]) -> None:
        rows = [(path, how.changed_ns, how.content) for path, how in seen.items()]
        self._db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", rows)

    def pictures(self) -> dict[str, Picture]:
        """Return every known picture, with a row or without, by path."""
        return {row[0]: Picture(*row) for row in self._db.execute("SELECT path, size_bytes, mtime_ns FROM pictures")}

    def skipped_count(self) -> int:
        return self._db.execute("SELECT count(*) FROM pictures WHERE shard IS NULL").fetchone()[0]

    def skipped(self) -> list[tuple[str, str]]:
        """Return path and reason of each picture without a row."""
        return self._db.execute("SELECT path, skipped FROM pictures WHERE shard IS NULL ORDER BY path").fetchall()

    def live(self) -> dict[int, int]:
        """Count the rows of each shard that belong to a picture, by the shard's number."""
        return dict(self._db.execute("SELECT id, live FROM shards"))

    def entries_of(self, shard: int) -> list[ShardEntry]:
        found = self._db.execute(
            "SELECT path, size_bytes, mtime_ns, row FROM pictures WHERE shard = ? ORDER BY row", (shard,)
        )
        return [ShardEntry(Picture(*row[:3]), row[3]) for row in found]

    def rows_of(self, shard: int) -> list[int]:
        """Return the rows of a shard that belong to a picture."""
        return [row for (row,) in self._db.execute("SELECT row FROM pictures WHERE shard = ?", (shard,))]

    def at(self, places: Sequence[tuple[int, int]]) -> list[Picture | None]:
        """Return the picture at each (shard, row); None where the row has no picture any more."""
        query = "SELECT path, size_bytes, mtime_ns FROM pictures WHERE shard = ? AND row = ?"
        found = [self._db.execute(query, place).fetchone() for place in places]
        return [Picture(*row) if row else None for row in found]


@contextmanager
def writers_lock(folder: Path) -> Iterator[None]:
    """Hold the right to change an index, which one process at a time has.

    Raises:
        FileFormatError: another process has it.
    """
    import sqlite3

    path = folder / LOCK
    try:
        lock = sqlite3.connect(path, timeout=0, isolation_level=None)
    except sqlite3.Error as error:
        raise FileFormatError(path, f"cannot be opened: {error}") from error
    try:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            raise FileFormatError(
                folder, "this index is being written by another process; wait until that is done, or use another index"
            ) from error
        yield
    finally:
        lock.close()
