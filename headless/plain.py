"""A client of one ComfyUI server without async: each call waits until it is done.

with Client("http://127.0.0.1:8188") as client:
    for seed in range(10):
        print(client.run("workflow.json", {"3.seed": seed}, output="pictures").files)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from .check_command import check_there
from .library import Result, Settings, Workflow, opened, run_async, setting_texts
from .remote.address import Address
from .remote.client import Client as AsyncClient
from .remote.job import Job as AsyncJob
from .remote.job import OnProgress
from .remote.remote import described
from .remote.timing import Timing
from .workflow.graph import Prompt, Spec
from .workflow.problems import Checked

_T = TypeVar("_T")


class Client:
    """A conversation with one server, kept up by a thread of its own; `with Client(url) as client`."""

    def __init__(self, address: str | Address, *, headers: Sequence[str] = (), timing: Timing | None = None):
        """Make a client for an address such as `http://127.0.0.1:8188` or `https://host/prefix?token=abc`.

        headers: "Name: value", sent with every request.

        Raises:
            WorkflowError: it is no address or no header, or aiohttp is missing.
        """
        self._client = AsyncClient(address, headers=headers, timing=timing)
        self._under_way: set[asyncio.Task] = set()

    def __enter__(self) -> Client:
        """Greet the server.

        Raises:
            Unreachable, LoginNeeded, NotComfyUI.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="cvl client")
        self._thread.start()
        try:
            self._do(self._client.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._do(self._close())
        finally:
            self._end()

    def run(
        self,
        workflow: Workflow,
        settings: Settings = (),
        *,
        output: str | Path = "output",
        inputs: str | Path | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        """Run a workflow and fetch its files; as the function `run`.

        Raises:
            WorkflowError, NodeFailure, ServerError, FileFormatError, Interrupted.
        """
        return self._do(
            run_async(workflow, settings, client=self._client, output=output, inputs=inputs, timeout_s=timeout_s)
        )

    def to_api(self, workflow: Workflow, settings: Settings = ()) -> Prompt:
        """The API form of a workflow as this server would get it; nothing runs.

        Raises:
            WorkflowError, ServerError.
        """
        document, _ = opened(workflow, "output")
        return self._do(described(self._client, document, setting_texts(settings), []))[0]

    def check(self, workflow: Workflow, settings: Settings = ()) -> Checked:
        """Everything that is wrong with a workflow for this server, without a run.

        Raises:
            WorkflowError, ServerError.
        """
        document, folders = opened(workflow, "output")
        return self._do(check_there(self._client, document, setting_texts(settings), folders))

    def submit(self, prompt: Prompt, workflow: Mapping | None = None) -> Job:
        """Queue a prompt in API form; `workflow` is the canvas it came from, if any.

        Raises:
            WorkflowError: the server finds it wrong. ServerError: it refuses, or does not answer.
        """
        return Job(self, self._do(self._client.submit(prompt, workflow)))

    def object_info(self, name: str) -> Spec | None:
        """The spec of a class, None when the server does not have it."""
        return self._do(self._client.object_info(name))

    def running_and_waiting(self) -> int:
        """How many jobs the server has, everybody's."""
        return self._do(self._client.running_and_waiting())

    def _do(self, work: Coroutine[object, object, _T]) -> _T:
        """Wait for the work; Ctrl+C cancels it, and it tells the server."""
        future = asyncio.run_coroutine_threadsafe(self._noted(work), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _noted(self, work: Coroutine[object, object, _T]) -> _T:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            return await work
        finally:
            self._under_way.discard(task)

    async def _close(self) -> None:
        rest = self._under_way - {asyncio.current_task()}
        await asyncio.gather(*rest, return_exceptions=True)
        await self._client.__aexit__(None, None, None)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Job:
    """One prompt on one server."""

    def __init__(self, client: Client, job: AsyncJob):
        self._client, self._job = client, job

    @property
    def id(self) -> str:
        """The prompt_id on the server."""
        return self._job.id

    def wait(self, on_progress: OnProgress | None = None, *, timeout_s: float | None = None) -> Mapping[str, Mapping]:
        """Wait until the job is done; node -> ui.

        Raises:
            NodeFailure, Interrupted, TimedOut, JobLost, Unreachable, LoginNeeded.
        """
        return self._client._do(self._job.wait(on_progress, timeout_s=timeout_s))

    def save(self, folder: str | Path) -> list[Path]:
        """Fetch the files of the job, once it is done.

        Raises:
            ServerError: files are missing; all others are saved. FileFormatError: the disk refused.
        """
        return [one.path for one in self._client._do(self._client._client.save(self._job.outputs, Path(folder)))]

    def interrupt(self) -> None:
        """Take the job out of the queue, or stop it if it runs; no other is touched."""
        self._client._do(self._job.interrupt())
