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
    """The sentences on what is wrong with each task, its row first."""
    return [f"{task.where}: {error}" if task.where else str(error) for task, error in zip(tasks, found) if error]
