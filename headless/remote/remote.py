"""A run on a server from beginning to end: describe, set, upload, run, download."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ..progress import Progress
from ..workflow.canvas import class_names
from ..workflow.folders import Folders
from ..workflow.graph import NodeFailure, Prompt, Spec, is_canvas, label, read_api, unknown_nodes
from ..workflow.settings import prepared, refuse_links
from .address import Address
from .client import Client
from .downloading import MissingFiles
from .errors import Interrupted, NotTold, ServerError
from .job import Job, OnProgress, Step
from .submitting import name
from .timing import Timing
from .uploading import upload_inputs

_T = TypeVar("_T")
_ASKED_AT_ONCE = 8
Shown = tuple[str, str, dict[str, list], list[Path]]  # node, its name, ui, files


@dataclass(frozen=True)
class Server:
    """Which server, and how long a job and an absent server are waited for."""

    address: Address
    timing: Timing = field(default_factory=Timing)
    timeout_s: float | None = None


@dataclass
class Ran:
    """What a run showed, and the error it ended with."""

    shown: list[Shown]
    error: Exception | None = None


def run_there(
    server: Server, document: Mapping, settings: Sequence[str], folders: Folders, progress: Progress, notes: list[str]
) -> Iterator[Shown]:
    """Run the workflow on the server and give what its nodes show, whose files are in `folders.output` by then; where
    the run failed, what was saved before it did comes first, and then the error.

    Raises:
        WorkflowError, NodeFailure, ServerError, Interrupted (after telling the server to stop).
    """
    try:
        result = asyncio.run(cancellable(_run(server, document, settings, folders, progress, notes)))
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        raise Interrupted("stopped; the server was told to stop, too") from error
    yield from result.shown
    if result.error is not None:
        raise result.error


async def cancellable(work: Coroutine[object, object, _T]) -> _T:
    """Ctrl-C and a polite kill cancel the work, so that it can tell the server (Python 3.10 does not do it itself)."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not in the main thread
            break
    return await task


async def _run(
    server: Server, document: Mapping, settings: Sequence[str], folders: Folders, progress: Progress, notes: list[str]
) -> Ran:
    async with Client(server.address, timing=server.timing) as client:
        return await run_with(client, document, settings, folders, progress, notes, server.timeout_s)


async def run_with(
    client: Client,
    document: Mapping,
    settings: Sequence[str],
    folders: Folders,
    progress: Progress,
    notes: list[str],
    timeout_s: float | None = None,
) -> Ran:
    """Run the workflow over an open connection; an error that came after the beginning is in what is given back.

    Raises:
        WorkflowError, ServerError: before the job was taken. NotTold: we were stopped, and could not tell the server.
    """
    prompt, chosen, specs = await described(client, document, settings, notes)
    await upload_inputs(client.uploads, prompt, specs, replace(folders, chosen=chosen))
    job = await client.submit(prompt, document if is_canvas(document) else None, drawn(progress))
    error: Exception | None = None
    try:
        await _waited(job, timeout_s)
    except NotTold:
        raise
    except (NodeFailure, Interrupted, ServerError) as found:
        error = found
    progress.close()
    if client.cuts:
        notes.append(f"the connection to the server was cut {client.cuts} times; its history was asked instead")
    return await _fetched(client, job, folders.output, error)


def api_there(server: Server, document: Mapping, settings: Sequence[str], notes: list[str]) -> Prompt:
    """The API form of a workflow as the server would get it, values set; nothing is sent.

    Raises:
        WorkflowError, ServerError.
    """

    async def ask() -> Prompt:
        async with Client(server.address, timing=server.timing) as client:
            return (await described(client, document, settings, notes))[0]

    return asyncio.run(ask())


async def described(
    client: Client, document: Mapping, settings: Sequence[str], notes: list[str]
) -> tuple[Prompt, dict[str, Path], dict[str, Spec | None]]:
    """The API form with the values set, the files that were named by a path, and the specs of its classes; adds to
    the notes.

    Raises:
        WorkflowError: it is no workflow, or the server does not know a class.
    """
    specs = await class_specs(client, document)
    refuse_unknown(document, specs)
    prompt, chosen = prepared(document, settings, specs.get, notes, client.front_end)
    refuse_links(prompt, specs.get)
    return prompt, chosen, specs


async def class_specs(client: Client, document: Mapping) -> dict[str, Spec | None]:
    """What the server says of each class of the workflow, None of those that it does not have."""
    if is_canvas(document):
        names = set(class_names(document))
    else:
        names = {found["class_type"] for found in read_api(document).values()}
    gate = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def ask(name: str) -> Spec | None:
        async with gate:
            return await client.object_info(name)

    return dict(zip(sorted(names), await asyncio.gather(*map(ask, sorted(names)))))


def refuse_unknown(document: Mapping, specs: Mapping[str, Spec | None]) -> None:
    """Refuse a workflow in API form that has classes without a spec; of a canvas the conversion knows more.

    Raises:
        WorkflowError: names the nodes.
    """
    prompt = {} if is_canvas(document) else read_api(document)
    unknown = [label(prompt, node) for node, found in prompt.items() if specs.get(found["class_type"]) is None]
    if unknown:
        raise unknown_nodes(unknown)


def drawn(progress: Progress) -> OnProgress:
    """What tells a progress bar of a job's steps."""

    def on_step(step: Step) -> None:
        if step.total:
            progress.step(step.done, step.total)
        else:
            progress.node(step.name)

    return on_step


async def _waited(job: Job, timeout_s: float | None) -> None:
    try:
        await job.wait(timeout_s=timeout_s)
    except asyncio.CancelledError:
        if not await asyncio.shield(job.stop()):
            raise NotTold("stopped; the server does not answer, and the job may go on there") from None
        raise


async def _fetched(client: Client, job: Job, output: Path, error: Exception | None) -> Ran:
    """The files of a job that ended, by an error or without one; a second error does not hide the first."""
    try:
        saved = await client.save(job.outputs, output)
    except MissingFiles as missing:
        saved, error = missing.saved, error or missing
    except ServerError as absent:
        saved, error = [], error or absent
    paths: dict[str, list[Path]] = {}
    for one in saved:
        paths.setdefault(one.node, []).append(one.path)
    return Ran([(node, name(job.prompt, node), ui, paths.get(node, [])) for node, ui in job.outputs.items()], error)
