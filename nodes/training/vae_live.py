"""What Train VAE shows while it trains: the course, and the worst part before beside what it becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .live import Shown

if TYPE_CHECKING:
    from ...training.vae.run import Measured

_ITSELF = -1  # in the place of a step: the picture, first in the row


class LiveVAE(Shown):
    """A watcher of a VAE's training, and the callback for what takes long between its steps."""

    _done, _all = 0, 1

    def look(self, measured: Measured) -> None:
        """Take the part as it is now, and tell the canvas."""
        look = measured.look
        itself = {} if _ITSELF in self.samples else {_ITSELF: look.part}
        self.take(measured.step, look.errors, lambda: {**itself, measured.step: look.result})

    def step(self, done: int, total: int, loss: float) -> None:
        self._done, self._all = done, total
        super().step(done, total, loss)

    def tick(self) -> None:
        """Let the user cancel."""
        self._on_step(self._done, self._all)
