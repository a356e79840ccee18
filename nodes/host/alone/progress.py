"""Who is told of progress, and what stands on a wire that has nothing on it."""

from __future__ import annotations

from collections.abc import Callable

from .absence import Absent
from .place import HERE


def progress(total: int) -> Callable[[int, int], None]:
    def on_step(done: int, total: int) -> None:
        HERE.on_step(done, total)

    return on_step


def absent(why: str | None) -> object:
    return Absent(why)
