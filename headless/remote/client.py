"""A client of one ComfyUI server, with any number of jobs in flight.

    async with Client("http://127.0.0.1:8188") as client:
        job = await client.submit(prompt)
        outputs = await job.wait()
        paths = await client.save(outputs, Path("output"))

Routes and messages: ComfyUI 0.3.64 and 0.33.0, server.py and execution.py.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from ..workflow.canvas import FrontEnd
from ..workflow.graph import Prompt, Spec, server_spec
from . import records
from .address import Address, read_address
from .connection import Connection
from .downloading import Saved, save
from .errors import NotTold, ServerError
from .job import Job, OnProgress
from .listening import Listener
from .submitting import look, submit
from .timing import Timing
from .uploading import Uploads


class Client:
    """A conversation with one server; `async with Client(url) as client`. Nothing is sent before that."""

    def __init__(self, address: str | Address, *, headers: Sequence[str] = (), timing: Timing | None = None):
        """Make a client for an address such as `http://127.0.0.1:8188` or `https://host/prefix?token=abc`.

        headers: "Name: value", sent with every request.

        Raises:
            WorkflowError: it is no address or no header, or aiohttp is missing.
        """
        found = address if isinstance(address, Address) else read_address(address, headers)
        self._connection = Connection(found, timing or Timing())
        self._id = uuid.uuid4().hex
        self._jobs: dict[str, Job] = {}
        self._running = ""

    async def __aenter__(self) -> Client:
        """Greet the server.

        Raises:
            Unreachable, LoginNeeded, NotComfyUI.
        """
        self._listener = Listener(self._connection, self._id, self._hear)
        self._uploads = Uploads(self._connection)
        await self._connection.open()
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._listener.stop()
        await self._connection.close()

    @property
    def url(self) -> str:
        """The server's address, without a secret in it."""
        return self._connection.address.url

    @property
    def front_end(self) -> FrontEnd | None:
        """The version of the server's front end; None where it does not tell it."""
        return self._connection.front_end

    @property
    def cuts(self) -> int:
        """How often the websocket was cut."""
        return self._listener.cuts

    async def object_info(self, name: str) -> Spec | None:
        """The spec of a class, None when the server does not have it."""
        status, body = await self._connection.json("get", f"/object_info/{quote(name, safe='')}")
        found = body.get(name) if isinstance(body, dict) else None
        if status not in (200, 404):
            raise ServerError(f"the server at {self.url} refused to describe {name} (HTTP {status})")
        if not found:
            return None
        return server_spec(found)

    @property
    def uploads(self) -> Uploads:
        """Files for the server's input folder."""
        return self._uploads

    async def submit(
        self,
        prompt: Prompt,
        workflow: Mapping | None = None,
        on_progress: OnProgress = lambda step: None,
        *,
        job_id: str = "",
    ) -> Job:
        """Queue a prompt (API form); `workflow` is the canvas it came from, which the server puts into its pictures.
        Whoever wants to hear of the first steps gives `on_progress` here, not to the job's `wait`. A `job_id` of the
        caller's own is one by which `find` finds the job again.

        Raises:
            WorkflowError: the server finds it wrong. ServerError: it refuses, or does not answer.
        """
        await self._listener.start()
        job = self._job(job_id or str(uuid.uuid4()), prompt, on_progress)
        task = asyncio.ensure_future(submit(self._connection, prompt, workflow, self._id, job.id))
        try:
            taken, job.sent_again = await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task], timeout=self._connection.timing.stop_s)  # it may be on its way
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.forget(job)
            if not await job.stop():
                raise NotTold("stopped; the server does not answer, and may have taken the job") from None
            raise
        except BaseException:
            self.forget(job)
            raise
        if taken != job.id:
            self.forget(job)
            job.id = taken
            self._jobs[taken] = job
        return job

    async def find(self, prompt: Prompt, job_id: str, on_progress: OnProgress = lambda step: None) -> Job | None:
        """A job that was submitted under this id, by another client perhaps; None where the server does not know it.

        Raises:
            Unreachable, LoginNeeded, NotComfyUI.
        """
        await self._listener.start()
        taken = await look(self._connection, job_id)
        return None if taken is None else self._job(taken, prompt, on_progress)

    def _job(self, job_id: str, prompt: Prompt, on_progress: OnProgress) -> Job:
        job = Job(self._connection, self._listener, job_id, prompt, on_progress, self.forget)
        self._jobs[job.id] = job
        return job

    def forget(self, job: Job) -> None:
        """Listen no longer for this job."""
        self._jobs.pop(job.id, None)

    async def running_and_waiting(self) -> int:
        """How many jobs the server has, everybody's."""
        return await records.count(self._connection)

    async def save(self, outputs: Mapping[str, Mapping], folder: Path, parts: Path | None = None) -> list[Saved]:
        """Fetch every file that the outputs of a job name into the folder; see `downloading.save`."""
        return await save(self._connection, outputs, folder, parts)

    def _hear(self, kind: str, data: dict) -> None:
        """Hand a message to the job it is of; old hosts send `progress` without saying whose."""
        job_id = data.get("prompt_id") or (self._running if kind == "progress" else "")
        if kind in ("execution_start", "executing"):
            self._running = job_id
        if job := self._jobs.get(job_id):
            job.hear(kind, data)
