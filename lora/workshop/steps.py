"""The callback with which long work says how far it is."""

from collections.abc import Callable

OnStep = Callable[[int, int], None]  # done, and in all; may raise to stop


def no_step(done: int, total: int) -> None:
    """Say nothing."""
