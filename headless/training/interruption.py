"""Ctrl+C in a training: the step under way is finished first, so that the state that is saved is a whole one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..progress import Progress


class Stoppable(Progress):
    """Progress that, once `stop` was called, raises KeyboardInterrupt at the next step."""

    def __init__(self, stream, *, quiet: bool = False):
        super().__init__(stream, quiet=quiet)
        self.is_stopped = False

    def step(self, done: float, total: float) -> None:
        super().step(done, total)
        if self.is_stopped:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """The next step is the last one; a second call ends at once."""
        if self.is_stopped:
            raise KeyboardInterrupt
        self.is_stopped = True


@contextmanager
def finishing_the_step(progress: Stoppable) -> Iterator[None]:
    """While this is open, Ctrl+C and a request to end (SIGTERM) wait for the step; a second one does not."""

    def on_signal(number: int, frame: object) -> None:
        if not progress.is_stopped:
            print("stopping after this step; Ctrl+C again stops at once", file=sys.stderr, flush=True)
        progress.stop()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
