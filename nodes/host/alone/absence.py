"""What travels on a wire that has nothing on it, where there is no ComfyUI with its ExecutionBlocker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Absent:
    """A node that gets this does not run; it shows `why`, and those after it get `Absent(None)`, which is silent."""

    why: str | None
