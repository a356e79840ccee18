"""What long work does after each step: it says how far it is, and gives back what it has freed.

glibc keeps blocks of up to 32 MB for itself, in pieces between what is still in use: a work that takes and frees
thousands of weights holds several times the memory of the largest one in the end.
"""

import ctypes
import sys
from collections.abc import Callable
from functools import cache

OnStep = Callable[[int, int], None]  # done, and in all; may raise to stop
_EVERY = 2**26  # numbers of weights: asked so seldom, it takes a hundredth of the time


def no_step(done: int, total: int) -> None:
    """Say nothing."""


class Returning:
    """Gives freed memory back to the system every now and then, in a work that reads many weights."""

    def __init__(self) -> None:
        self._read = 0

    def after(self, numbers: int) -> None:
        """Note that a weight of so many numbers has been read and dropped."""
        self._read += numbers
        if self._read >= _EVERY:
            self._read = 0
            give_back()


def give_back() -> None:
    """Give freed memory back to the system, where the C library has a way to."""
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`; None in another C library."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
