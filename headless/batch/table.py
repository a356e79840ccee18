"""What a batch tells at its end: a table for people, a document for programs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from .record import DONE, Entry
from .rows import Row

_WAITING = "not done"
_WIDEST = 60
_MOST_FILES = 6  # of a job in the table; the document has all


def job_document(row: Row, entry: Entry | None, before: bool) -> dict[str, object]:
    """A job for programs: its row, its settings and what became of it; `before`: it was done by an earlier run."""
    if entry is None:
        return {"row": row.where, "settings": list(row.settings), "state": _WAITING, "before": False}
    found: dict[str, object] = {
        "row": row.where,
        "settings": list(row.settings),
        "state": entry.state if entry.state in (DONE, "failed") else _WAITING,
        "before": before,
        "server": entry.server,
        "job": entry.job,
        "seconds": entry.seconds,
        "files": list(entry.files),
        "outputs": entry.outputs,
    }
    return {**found, "error": entry.error} if entry.error else found


def table(jobs: list[Mapping]) -> str:
    """One line a job, and the sums."""
    lines = [("", "state", "seconds", "settings", "files")]
    for number, job in enumerate(jobs, 1):
        seconds = job.get("seconds")
        files = _listed(job.get("files") or ())
        lines.append(
            (
                str(number),
                "done before" if job["before"] else str(job["state"]),
                f"{seconds:.1f}" if seconds else "",
                _short(" ".join(job["settings"])),
                " ".join(filter(None, (" ".join(str(job.get("error") or "").split()), files))),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    shown = ["  ".join([*(cell.ljust(width) for cell, width in zip(line, widths)), line[4]]).rstrip() for line in lines]
    states = Counter("done before" if job["before"] else str(job["state"]) for job in jobs)
    return "\n".join([*shown, f"{len(jobs)} jobs: {', '.join(f'{count} {state}' for state, count in states.items())}"])


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _MOST_FILES} more" if len(paths) > _MOST_FILES else ""
    return " ".join(map(_near, paths[:_MOST_FILES])) + more


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _near(path: str) -> str:
    near = os.path.relpath(path)
    return path if near.startswith("..") else near
