"""How the time of a piece of work grows with its size: told by what this thread used of a processor, so that it does
not matter what else the machine does, and compared with the same work in parts, so that its speed does not either.
"""

import gc
import time
from collections.abc import Callable

PARTS, MOST = 10, 4.0  # linear work takes as long as its parts together (measured: up to 1.5), quadratic work 10 times
ROUNDS = 4  # a slow round is run again: caches are shared with whatever else runs
GRAIN_S = 0.05  # less than this is not measured: the clock of a thread has steps of 16 ms under Windows


def check_linear(work: Callable[[int], object], size: int) -> None:
    """Fails where `work(size)` takes more than MOST times the processor time of PARTS runs of `work(size // PARTS)`."""
    work(size // PARTS)  # what is made once, and only then
    growth = []
    for _ in range(ROUNDS):
        parts_s = sum(used_s(work, size // PARTS) for _ in range(PARTS))
        growth.append(used_s(work, size) / max(parts_s, GRAIN_S))
        if growth[-1] <= MOST:
            return
    raise AssertionError(
        f"{PARTS} times the size takes {PARTS * min(growth):.0f} times as long; as long as it is large was expected"
    )


def used_s(work: Callable[..., object], *arguments) -> float:
    """The processor time that this thread uses for it; not what it waits, nor what collecting garbage takes, which
    looks through all that the process holds.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        begin = time.thread_time()
        work(*arguments)
        return time.thread_time() - begin
    finally:
        if collects:
            gc.enable()
