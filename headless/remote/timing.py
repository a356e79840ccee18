"""How long we wait for what; tests wait less."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """All times in seconds; a pair is the first and the longest of a growing row of pauses."""

    connect_s: float = 10.0
    answer_s: float = 120.0  # of silence within an answer; a host that loads a model answers nobody meanwhile
    heartbeat_s: float = 25.0  # between pings: proxies cut what is silent for 60 s
    first_s: float = 10.0  # how long a server is tried that has never answered
    retry_s: float = 120.0  # and one that has answered before
    backoff_s: tuple[float, float] = (0.5, 8.0)  # between tries
    quiet_s: tuple[float, float] = (2.0, 15.0)  # of silence before a look at the history
    down_s: tuple[float, float] = (0.5, 5.0)  # the same while there is no websocket
    ending_s: tuple[float, float] = (0.05, 1.0)  # the history is written shortly after the end is said
    settle_s: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)  # before each look for a job whose taking nobody confirmed
    lost_looks: int = 4  # in a row that do not find a job, before it is called lost
    stop_s: float = 10.0  # to take a job back after Ctrl+C

    def growing(self, pair: tuple[float, float]) -> Iterator[float]:
        """Pauses from the first to the longest, each twice the one before, and not in step with other clients."""
        pause_s, longest_s = pair
        while True:
            yield pause_s * random.uniform(0.8, 1.2)
            pause_s = min(2 * pause_s, longest_s)


class Patience:
    """Pauses between tries, until `total_s` is over."""

    def __init__(self, timing: Timing, total_s: float):
        self._pauses = timing.growing(timing.backoff_s)
        self._end = asyncio.get_running_loop().time() + total_s

    async def pause(self, error: Exception, at_least_s: float = 0.0) -> None:
        """Wait before the next try; raises the error of the last one where no time is left."""
        pause_s = max(next(self._pauses), at_least_s)
        if getattr(error, "hopeless", False) or asyncio.get_running_loop().time() + pause_s > self._end:
            raise error
        await asyncio.sleep(pause_s)
