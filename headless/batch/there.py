"""Jobs on servers: each server has a few ahead, a job is noted before it is sent, and one that may have been taken is
looked for on the server it was sent to before it is sent again.
"""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..remote.client import Client
from ..remote.downloading import MissingFiles
from ..remote.errors import Interrupted, JobLost, LoginNeeded, NotComfyUI, ServerError, TimedOut, Unreachable
from ..remote.job import Job, Step
from ..remote.remote import Server, class_specs, refuse_unknown
from ..remote.uploading import upload_inputs
from ..workflow.folders import Folders
from ..workflow.graph import NodeFailure, Prompt, Spec, WorkflowError, is_canvas
from ..workflow.settings import opened, prepared, refuse_links, with_settings
from .record import DONE, FAILED, SENT, STAGE, Entry, Record
from .rows import refuse_bad
from .task import OnDone, Task, named

_LOST_AT_MOST = 3  # times that a server loses one job before it is called failed


@dataclass
class _Station:
    """A server and what is known of it."""

    client: Client
    server: Server
    specs: Mapping[str, Spec | None]
    own: deque[Task] = field(default_factory=deque)  # sent to it by an earlier run
    gone: ServerError | None = None


async def batch_there(
    servers: Sequence[Server],
    document: Mapping,
    tasks: Sequence[Task],
    folders: Folders,
    record: Record,
    notes: list[str],
    on_done: OnDone,
    ahead: int,
) -> None:
    """Run the tasks on the servers; what became of each is in the record.

    Raises:
        WorkflowError: before anything ran, with the row of each task that is wrong.
        ServerError: no server is left, or one that has jobs of ours is not there; those stay on record as sent.
        FileFormatError: the disk refuses.
    """
    async with AsyncExitStack() as opened_clients:
        stations = await _stations(opened_clients, servers, document, notes)
        for station in stations:
            _refuse_wrong(station, document, tasks, notes if station is stations[0] else [])
        await _Batch(stations, document, tasks, folders, record, on_done).run(ahead)
        notes += [
            f"the connection to {one.client.url} was cut {one.client.cuts} times; its history was asked instead"
            for one in stations
            if one.client.cuts
        ]


async def _stations(
    clients: AsyncExitStack, servers: Sequence[Server], document: Mapping, notes: list[str]
) -> list[_Station]:
    """The servers that answer; those that do not are noted."""
    found: list[_Station] = []
    absent: list[ServerError] = []
    for server in servers:
        try:
            client = await clients.enter_async_context(Client(server.address, timing=server.timing))
            found.append(_Station(client, server, await class_specs(client, document)))
        except ServerError as error:
            absent.append(error)
    if not found:
        raise absent[0]
    notes += [f"{error}; the others go on without it" for error in absent]
    return found


def _refuse_wrong(station: _Station, document: Mapping, tasks: Sequence[Task], notes: list[str]) -> None:
    try:
        refuse_unknown(document, station.specs)
        prompt, shown = opened(document, station.specs.get, notes, station.client.front_end)
    except WorkflowError as error:
        raise WorkflowError(f"{station.client.url}: {error}") from error

    def wrong(task: Task) -> Exception | None:
        try:
            made, _ = with_settings(prompt, task.settings, station.specs.get, shown)
            refuse_links(made, station.specs.get)
        except WorkflowError as error:
            return error
        return None

    refuse_bad(named(tasks, [wrong(task) for task in tasks]))


class _Batch:
    """The jobs that wait, those that are under way, and who works at them."""

    def __init__(
        self,
        stations: Sequence[_Station],
        document: Mapping,
        tasks: Sequence[Task],
        folders: Folders,
        record: Record,
        on_done: OnDone,
    ):
        self._stations, self._document, self._folders = stations, document, folders
        self._record, self._on_done = record, on_done
        self._waiting: deque[Task] = deque()
        self._left: deque[Task] = deque()  # sent to a server that went away
        self._under_way = 0
        self._changed = asyncio.Event()
        self._elsewhere: set[str] = set()
        by_url = {station.client.url: station for station in stations}
        for task in tasks:
            entry = record.find(task.key)
            if entry is None or entry.state != SENT:
                self._waiting.append(task)
            elif entry.server in by_url:
                by_url[entry.server].own.append(task)
            else:
                self._elsewhere.add(entry.server)

    async def run(self, ahead: int) -> None:
        """Work until nothing waits; one error of ours ends all, a server that goes away ends its own work."""
        workers = [
            asyncio.ensure_future(self._work(station)) for station in self._stations for _ in range(max(1, ahead))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        gone = next((station.gone for station in self._stations if station.gone), None)
        if gone is not None and (self._waiting or self._left or any(station.own for station in self._stations)):
            raise ServerError(f"{gone}; the same command goes on where this one ended") from gone
        if self._elsewhere:
            raise ServerError(
                f"jobs were sent to {', '.join(sorted(self._elsewhere))} before, and may be done there; give it as a "
                "--server, too, so that they are not done twice, or as --gone if it will not come back"
            )

    async def _work(self, station: _Station) -> None:
        while station.gone is None:
            self._changed.clear()
            task = station.own.popleft() if station.own else self._waiting.popleft() if self._waiting else None
            if task is None:
                if not self._under_way:
                    return
                await self._changed.wait()
                continue
            self._under_way += 1
            try:
                await self._one(station, task)
            except ServerError as error:
                station.gone = station.gone or error
                entry = self._record.find(task.key)
                (self._left if entry is not None and entry.state == SENT else self._waiting).append(task)
            finally:
                self._under_way -= 1
                self._changed.set()

    async def _one(self, station: _Station, task: Task) -> None:
        """One job to its end, sent again where the server lost it; its failure is noted, the server's is raised."""
        for tries in range(1, _LOST_AT_MOST + 1):
            try:
                return await self._once(station, task)
            except JobLost as lost:
                if tries == _LOST_AT_MOST:
                    self._record.write(task.key, Entry(FAILED, task.settings, station.client.url, error=str(lost)))
                    self._on_done()

    async def _once(self, station: _Station, task: Task) -> None:
        running = _Running(station, task, self._document, self._folders, self._record)
        entry = await running.entry()
        self._record.write(task.key, entry)
        self._on_done()


class _Running:
    """One job on one server, from its row to its files."""

    def __init__(self, station: _Station, task: Task, document: Mapping, folders: Folders, record: Record):
        self._station, self._task, self._document = station, task, document
        self._folders, self._record = folders, record
        self._begin = 0.0

    async def entry(self) -> Entry:
        """What became of the job.

        Raises:
            JobLost, Unreachable, LoginNeeded, NotComfyUI: it may be on the server; it is on record as sent.
        """
        before = self._record.find(self._task.key)
        known = before.job if before is not None and before.state == SENT else ""
        prompt, chosen = prepared(
            self._document, self._task.settings, self._station.specs.get, [], self._station.client.front_end
        )
        try:
            job = await self._station.client.find(prompt, known, self._step) if known else None
            if job is not None:
                entry = await self._ended(job)
                if entry is not None:
                    return entry
            job = await self._sent(prompt, chosen, known if job is None else "")
            return await self._ended(job) or self._failed("the run was stopped on the server")
        except (Unreachable, LoginNeeded, NotComfyUI, JobLost):
            raise
        except (WorkflowError, ServerError) as error:  # this job is refused; the others need not be
            return self._failed(str(error))

    async def _sent(self, prompt: Prompt, chosen: Mapping[str, Path], known: str) -> Job:
        """Send the job under an id that is on record before; `known` is one under which it may have been sent."""
        client, job_id = self._station.client, known or str(uuid.uuid4())
        await upload_inputs(client.uploads, prompt, self._station.specs, replace(self._folders, chosen=chosen))
        self._record.write(self._task.key, Entry(SENT, self._task.settings, client.url, job_id))
        try:
            canvas = self._document if is_canvas(self._document) else None
            job = await client.submit(prompt, canvas, self._step, job_id=job_id)
        except Unreachable as error:
            if not error.sent and not known:
                self._record.forget(self._task.key)
            raise
        job.sent_again = job.sent_again or bool(known)
        return job

    async def _ended(self, job: Job) -> Entry | None:
        """The job with its files; None where somebody stopped it."""
        error = ""
        try:
            await job.wait(timeout_s=self._station.server.timeout_s, once_begun=True)
        except asyncio.CancelledError:
            await asyncio.shield(job.stop())
            raise
        except Interrupted:
            return None
        except (NodeFailure, TimedOut) as failed:
            error = str(failed)
        parts = self._folders.output / STAGE / self._task.key
        try:
            saved = await self._station.client.save(job.outputs, self._folders.output, parts)
        except MissingFiles as missing:
            saved, error = missing.saved, error or str(missing)
        finally:
            shutil.rmtree(parts, ignore_errors=True)  # with what was left by an earlier run that was killed
        state = FAILED if error else DONE
        seconds = round(job.seconds or (time.perf_counter() - self._begin if self._begin else 0.0), 3)
        files = tuple(str(one.path) for one in saved)
        return Entry(state, self._task.settings, self._station.client.url, job.id, job.outputs, files, seconds, error)

    def _step(self, step: Step) -> None:
        self._begin = self._begin or time.perf_counter()

    def _failed(self, sentence: str) -> Entry:
        return Entry(FAILED, self._task.settings, self._station.client.url, error=sentence)
