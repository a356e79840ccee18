"""A job on a server: followed over the websocket, and in queue and history where the websocket is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..workflow.graph import NodeFailure, Prompt
from . import records
from .connection import Connection
from .errors import Interrupted, JobLost, ServerError, TimedOut, Unreachable
from .listening import Listener
from .submitting import name


@dataclass(frozen=True)
class Step:
    """A node has done `done` of `total` steps; none of none: it begins."""

    node: str
    name: str
    done: float = 0
    total: float = 0


OnProgress = Callable[[Step], None]


class Job:
    """One prompt on one server. `outputs` is node -> ui, complete when `wait` returns or raises."""

    def __init__(
        self,
        connection: Connection,
        listener: Listener,
        job_id: str,
        prompt: Prompt,
        on_progress: OnProgress = lambda step: None,
        on_end: Callable[[Job], None] = lambda job: None,
    ):
        self.id, self.prompt = job_id, prompt
        self.outputs: dict[str, dict] = {}
        self.sent_again = False
        self.seconds = 0.0  # that the server worked on it, as its history says
        self._connection, self._listener = connection, listener
        self._news, self._said_end, self._said_well = asyncio.Event(), False, False
        self._cuts = listener.cuts
        self._on_progress, self._on_end = on_progress, on_end

    async def wait(self, on_progress: OnProgress | None = None, *, timeout_s: float | None = None) -> dict[str, dict]:
        """Wait until the job is done; node -> ui of everything that it showed.

        `timeout_s` is of the whole wait; a job that takes longer is stopped.

        Raises:
            NodeFailure: a node failed; what others saved is in `outputs`. Interrupted: somebody stopped it.
            TimedOut, JobLost, Unreachable, LoginNeeded.
        """
        if on_progress is not None:
            self._on_progress = on_progress
        try:
            entry = await asyncio.wait_for(self._followed(), timeout_s)
        except asyncio.TimeoutError as error:
            told = "was stopped on the server" if await self.stop() else "may go on there: the server does not answer"
            raise TimedOut(f"the job was not done after {timeout_s:g} s, and {told}") from error
        except Unreachable as error:
            raise Unreachable(f"{error}; the job {self.id} may go on there", sent=True) from error
        finally:
            self._on_progress = lambda step: None
            self._on_end(self)
        if self.sent_again and await records.queued(self._connection, self.id):
            await self.interrupt()  # the sending that was thought lost
        self.outputs |= _outputs(entry)
        self.seconds = _seconds(entry)
        if wrong := _verdict(entry, self.prompt):
            raise wrong
        return self.outputs

    async def interrupt(self) -> None:
        """Take the job out of the queue, or stop it if it runs; no other job is touched."""
        await records.stop(self._connection, self.id)

    async def stop(self) -> bool:
        """Interrupt the job within some seconds; whether the server could be told."""
        try:
            await asyncio.wait_for(self.interrupt(), self._connection.timing.stop_s)
        except (ServerError, asyncio.TimeoutError):
            return False
        return True

    def hear(self, kind: str, data: Mapping) -> None:
        """Take in a message of the websocket that is of this job."""
        node = str(data.get("node") or data.get("node_id") or "")
        blocked = kind == "execution_error" and data.get("exception_type") == "ExecutionBlocked"  # the others go on
        if kind == "executing" and data.get("node") is not None:
            self._on_progress(Step(node, name(self.prompt, node)))
        elif kind == "progress":
            self._on_progress(Step(node, name(self.prompt, node), data.get("value") or 0, data.get("max") or 0))
        elif kind == "executed" and isinstance(data.get("output"), Mapping):
            self.outputs[node] = dict(data["output"])
        elif blocked:
            why = str(data.get("exception_message")).removeprefix("Execution Blocked: ")
            self.outputs[node] = {"text": [f"did not run: {why}"]}
        elif kind in ("execution_success", "execution_error", "execution_interrupted") or kind == "executing":
            self._said_end, self._said_well = True, kind in ("execution_success", "executing")
        self._news.set()

    async def _followed(self) -> Mapping:
        """The job's entry in the history, as soon as it is there."""
        lost, pauses = 0, self._pauses()
        while True:
            if await self._heard_within(next(pauses)) and not self._said_end:
                pauses = self._pauses()
                continue
            found = await records.find(self._connection, self.id)
            if found is not None and found.entry is not None:
                return found.entry
            if found is not None and self.sent_again:
                await records.drop_twin(self._connection, self.id)
            lost = 0 if found is not None else lost + 1
            if lost >= self._connection.timing.lost_looks:
                if self._said_well and self._cuts == self._listener.cuts:
                    return {}  # somebody has cleared the history; all outputs were heard
                raise JobLost(
                    f"the server at {self._connection.address.url} no longer knows the job {self.id}: it was taken out "
                    "of the queue, or the server was started anew; run it again"
                )

    async def _heard_within(self, pause_s: float) -> bool:
        """Whether the server said something of this job within that time."""
        try:
            await asyncio.wait_for(self._news.wait(), pause_s)
        except asyncio.TimeoutError:
            return False
        self._news.clear()
        return True

    def _pauses(self) -> Iterator[float]:
        """How long to listen before each look: briefly once the end is said, longer the longer all is quiet."""
        timing = self._connection.timing
        rows = {pair: timing.growing(pair) for pair in (timing.ending_s, timing.down_s, timing.quiet_s)}
        while True:
            up = timing.quiet_s if self._listener.is_up else timing.down_s
            yield next(rows[timing.ending_s if self._said_end else up])


def _outputs(entry: Mapping) -> dict[str, dict]:
    outputs = entry.get("outputs") or {}
    return {str(node): dict(ui) for node, ui in outputs.items() if isinstance(ui, Mapping)}


def _seconds(entry: Mapping) -> float:
    """From the first message of the history to the last; 0 where it has no times."""
    messages = (entry.get("status") or {}).get("messages") or []
    told = [message[1].get("timestamp") for message in messages if len(message) > 1 and isinstance(message[1], Mapping)]
    times = [time_ms for time_ms in told if isinstance(time_ms, (int, float))]
    return (max(times) - min(times)) / 1000 if times else 0.0


def _verdict(entry: Mapping, prompt: Prompt) -> Exception | None:
    """How the history says that the job ended: None where all is well."""
    status = entry.get("status") or {}
    if status.get("status_str", "success") == "success":
        return None
    for message in reversed(status.get("messages") or []):
        kind, data = message[0], message[1] if isinstance(message[1], Mapping) else {}
        if kind == "execution_interrupted":
            return Interrupted("the run was stopped on the server")
        if kind == "execution_error":
            node = name(prompt, str(data.get("node_id")))
            return NodeFailure(f"{node} failed: {data.get('exception_type')}: {data.get('exception_message')}")
    return NodeFailure("the workflow failed on the server, which does not say why; its log does")
