"""A job of a batch that is still to do, and how the batch as a whole ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..workflow.graph import NodeFailure


@dataclass(frozen=True)
class Task:
    """One job: where its row is written, all its settings, and what it is known by."""

    where: str
    settings: tuple[str, ...]
    key: str


OnDone = Callable[[], None]  # told after each job that ended, well or not


class JobsFailed(NodeFailure):
    """Some jobs of a batch failed; the others are done."""

    def __init__(self, failed: int, count: int):
        super().__init__(f"{failed} of {count} jobs failed; the same command tries these again, and no other")


def named(tasks: Sequence[Task], found: Sequence[Exception | None]) -> list[str]:
    """The sentences on what is wrong with the tasks, each with the first row that it is true of and their number."""
    rows: dict[str, list[str]] = {}
    for task, error in zip(tasks, found):
        if error:
            rows.setdefault(str(error), []).append(task.where)
    return [f"{_places(where)}: {sentence}" if where[0] else sentence for sentence, where in rows.items()]


def _places(where: Sequence[str]) -> str:
    return where[0] + (f" and {len(where) - 1} more" if len(where) > 1 else "")
