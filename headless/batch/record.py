"""The record of a batch: what became of each job, in an SQLite file beside the output; a kill at any moment leaves it
whole, and while one batch has it open another one cannot.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ...files.errors import FileFormatError
from ..workflow.graph import WorkflowError

FILE = "cvl_batch.sqlite"
STAGE = ".cvl_batch"  # beside it: a folder for each job whose pictures are not in place yet
SENT, RAN, DONE, FAILED = "sent", "ran", "done", "failed"
_TABLE = """CREATE TABLE IF NOT EXISTS jobs (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, settings TEXT NOT NULL, server TEXT NOT NULL, job TEXT NOT NULL,
    result TEXT NOT NULL, changed TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"""
_WRITE = "INSERT OR REPLACE INTO jobs (key, state, settings, server, job, result) VALUES (?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Entry:
    """A job: `sent` to a server that may have it, `ran` here with its files not yet in place, `done` or `failed`.

    `server` and `job` say where it was sent to, and under which id.
    """

    state: str
    settings: tuple[str, ...] = ()
    server: str = ""
    job: str = ""
    outputs: Mapping[str, Mapping] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    seconds: float = 0.0
    error: str = ""


class Record:
    """The jobs of an output folder by their keys; every change is on the disk when its call returns."""

    def __init__(self, folder: Path):
        """Open the record in the folder, or begin one.

        Raises:
            WorkflowError: another batch has it open. FileFormatError: it is damaged, or the disk refuses.
        """
        self._path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self._path, timeout=0, isolation_level=None)
            self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.execute("BEGIN EXCLUSIVE")
            self._file.execute(_TABLE)
            self._file.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise FileFormatError(self._path, f"the record of the batch cannot be opened: {error}") from error
            raise WorkflowError(
                f"another batch is running into {folder}; wait for it, or choose another --output"
            ) from error
        except (sqlite3.DatabaseError, OSError) as error:
            raise FileFormatError(
                self._path, f"the record of the batch is damaged ({error}); move it away to begin anew"
            ) from error

    def find(self, key: str) -> Entry | None:
        """What is known of a job."""
        row = self._file.execute("SELECT state, settings, server, job, result FROM jobs WHERE key = ?", (key,))
        found = row.fetchone()
        if found is None:
            return None
        state, settings, server, job, result = found
        more = json.loads(result)
        more["files"] = tuple(more["files"])
        return Entry(state, tuple(json.loads(settings)), server, job, **more)

    def write(self, key: str, entry: Entry) -> None:
        """Note what became of a job.

        Raises:
            FileFormatError: the disk refuses.
        """
        result = {name: getattr(entry, name) for name in ("outputs", "files", "seconds", "error")}
        texts = [json.dumps(part, default=str) for part in (entry.settings, result)]
        try:
            self._file.execute(_WRITE, (key, entry.state, texts[0], entry.server, entry.job, texts[1]))
        except sqlite3.Error as error:
            raise FileFormatError(self._path, f"the record of the batch cannot be written: {error}") from error

    def forget(self, key: str) -> None:
        """Take back that a job was sent: it was not."""
        self._file.execute("DELETE FROM jobs WHERE key = ?", (key,))

    def clear_stage(self) -> None:
        """Remove what jobs left in the stage that were killed; what ran and waits to be put in place stays."""
        stage = self._path.parent / STAGE
        for folder in list(stage.iterdir()) if stage.is_dir() else ():
            entry = self.find(folder.name)
            if entry is None or entry.state != RAN:
                shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # it is not there, or jobs wait in it
            stage.rmdir()

    def close(self) -> None:
        self._file.close()
