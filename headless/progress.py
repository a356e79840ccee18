"""How far a run is: a bar where a person watches, plain lines elsewhere; on stderr, so that stdout is the result."""

from __future__ import annotations

from typing import TextIO

_LINE_EVERY = 0.1  # of a node's work, where no bar is drawn


class Progress:
    """Told of nodes and steps, which it shows on `stream`; draws nothing when `quiet`."""

    def __init__(self, stream: TextIO, *, quiet: bool = False):
        self.stream, self._quiet = stream, quiet
        self._bar = None
        self._said = 0.0
        self._name = ""

    def node(self, name: str) -> None:
        """A node begins."""
        self.close()
        self._name, self._said = name, 0.0
        if not self._quiet:
            self.stream.write(f"{name}\n")
            self.stream.flush()

    def step(self, done: float, total: float) -> None:
        """The node has done `done` of `total` steps."""
        if self._quiet or total <= 0:
            return
        if self._bar is None and self.stream.isatty():
            self._bar = _bar(total, self.stream)
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif done / total - self._said >= _LINE_EVERY or done >= total > 0 and self._said < 1:
            self._said = done / total
            self.stream.write(f"{self._name}: {done:g} of {total:g}\n")
            self.stream.flush()

    def close(self) -> None:
        """The node has ended."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _bar(total: float, stream: TextIO):
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, file=stream, leave=False)
