"""The placeholder on a wire without a value, in place of ComfyUI's ExecutionBlocker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Absent:
    """A node that gets this does not run; it shows `why`, and those after it get `Absent(None)`, which is silent."""

    why: str | None
