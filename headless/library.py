"""Workflows run, converted and checked from Python, by the code of the command line.

A workflow is a file (canvas JSON, API JSON, a picture that carries one) or its JSON as a dict. Settings are
{"node.input": value}, the node by id, title or class, or texts "node.input=value" as `--set` takes them. Without a
server all is done in this process, with the nodes of this pack and simple stock nodes.

Errors: `WorkflowError` (the workflow or a setting is wrong; nothing ran), `NodeFailure` (a node failed),
`ServerError` (the server is not there, or refuses), `FileFormatError` (a file cannot be read or written).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files.writing import check_writable, remove_abandoned
from .batch.many import Many, run_many
from .batch.rows import Row
from .batch.rows import setting_texts as texts_of
from .batch_options import AHEAD
from .check_command import check_here, check_there
from .progress import Progress
from .remote.address import read_address
from .remote.client import Client
from .remote.remote import Ran, Server, api_there, run_there, run_with
from .workflow.folders import Folders, folders_of
from .workflow.graph import Prompt
from .workflow.opening import read_workflow
from .workflow.problems import Checked

Workflow = str | Path | Mapping
Settings = Mapping[str, object] | Sequence[str]


@dataclass(frozen=True)
class Result:
    """What a run gave: node id -> what the node shows, the files in the output folder, and what was noticed."""

    outputs: Mapping[str, Mapping]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def run(
    workflow: Workflow,
    settings: Settings = (),
    *,
    server: str | None = None,
    headers: Sequence[str] = (),
    output: str | Path = "output",
    inputs: str | Path | None = None,
    models: str | Path | None = None,
    timeout_s: float | None = None,
) -> Result:
    """Run a workflow and fetch its files, here or on a server.

    >>> result = run("workflow.json", {"3.seed": 7}, server="http://127.0.0.1:8188")  # doctest: +SKIP
    >>> result.files  # doctest: +SKIP
    (PosixPath('output/ComfyUI_00001_.png'),)

    headers: "Name: value". inputs: a folder for LoadImage and the like. models: a models folder, without a server only.

    Raises:
        WorkflowError, NodeFailure, ServerError, FileFormatError, Interrupted.
    """
    document, folders = opened(workflow, output, inputs, models)
    notes: list[str] = []
    quiet = Progress(sys.stderr, quiet=True)
    if server is None:
        from .workflow.embedded import run_here

        shown = list(run_here(document, setting_texts(settings), folders, quiet, notes))
    else:
        there = Server(_address(server, headers), timeout_s=timeout_s)
        shown = list(run_there(there, document, setting_texts(settings), folders, quiet, notes))
    files = tuple(path for *_, paths in shown for path in paths)
    return Result({node: ui for node, _, ui, _ in shown}, files, tuple(notes))


async def run_async(
    workflow: Workflow,
    settings: Settings = (),
    *,
    client: Client,
    output: str | Path = "output",
    inputs: str | Path | None = None,
    timeout_s: float | None = None,
) -> Result:
    """Run a workflow over an open connection; any number at once.

    >>> async def both():
    ...     async with AsyncClient("http://127.0.0.1:8188") as client:
    ...         one, two = (run_async("workflow.json", {"3.seed": seed}, client=client) for seed in (1, 2))
    ...         return await asyncio.gather(one, two)

    Raises:
        WorkflowError, NodeFailure, ServerError, FileFormatError, Interrupted.
    """
    document, folders = opened(workflow, output, inputs)
    notes: list[str] = []
    quiet = Progress(sys.stderr, quiet=True)
    return result_of(await run_with(client, document, setting_texts(settings), folders, quiet, notes, timeout_s), notes)


def run_batch(
    workflow: Workflow,
    rows: Iterable[Settings],
    settings: Settings = (),
    *,
    servers: Sequence[str] = (),
    headers: Sequence[str] = (),
    output: str | Path = "output",
    inputs: str | Path | None = None,
    ahead: int = AHEAD,
    timeout_s: float | None = None,
    gone: Sequence[str] = (),
) -> list[Mapping]:
    """Run one job for each row; what is on record in the output folder as done is not done again.

    >>> jobs = run_batch("workflow.json", [{"3.seed": 1}, {"3.seed": 2}], servers=["http://10.0.0.1:8188"])
    ... # doctest: +SKIP
    >>> [job["files"] for job in jobs]  # doctest: +SKIP

    Each job is a dict as in the document of `--json`: row, settings, state, files, outputs, seconds. `gone`: servers of
    an earlier run that will not come back.

    Raises:
        JobsFailed: some jobs failed; the others are done. WorkflowError, ServerError, FileFormatError, Interrupted.
    """
    document, folders = opened(workflow, output, inputs)
    listed = [Row(f"row {number}", tuple(setting_texts(row))) for number, row in enumerate(rows, 1)]
    addresses = [Server(_address(server, headers), timeout_s=timeout_s) for server in servers]
    absent = frozenset(read_address(server).url for server in gone)
    many = Many(document, tuple(setting_texts(settings)), listed, folders, addresses, ahead, absent)
    return run_many(many, Progress(sys.stderr, quiet=True), [])


def to_api(
    workflow: Workflow, settings: Settings = (), *, server: str | None = None, headers: Sequence[str] = ()
) -> Prompt:
    """The API form of a workflow, values set, as it would be sent; nothing runs.

    >>> to_api("workflow.json", {"Prompt.text": "a cat"}, server="http://127.0.0.1:8188")  # doctest: +SKIP

    Raises:
        WorkflowError, ServerError.
    """
    document, folders = opened(workflow, None)
    if server is not None:
        return api_there(Server(_address(server, headers)), document, setting_texts(settings), [])
    from .workflow.embedded import api_here

    return api_here(document, setting_texts(settings), folders, [])


def check(
    workflow: Workflow,
    settings: Settings = (),
    *,
    server: str | None = None,
    headers: Sequence[str] = (),
    inputs: str | Path | None = None,
) -> Checked:
    """Everything that is wrong with a workflow, without a run.

    >>> for problem in check("workflow.json", server="http://127.0.0.1:8188").problems:  # doctest: +SKIP
    ...     print(problem.kind, problem.message, problem.near)

    Raises:
        WorkflowError: it cannot be read. ServerError: the server is not there.
    """
    document, folders = opened(workflow, None, inputs)
    if server is None:
        return check_here(document, setting_texts(settings), folders)

    async def ask() -> Checked:
        async with Client(_address(server, headers)) as client:
            return await check_there(client, document, setting_texts(settings), folders)

    return asyncio.run(ask())


def opened(
    workflow: Workflow, output: str | Path | None, inputs: str | Path | None = None, models: str | Path | None = None
) -> tuple[Mapping, Folders]:
    """The workflow as JSON, and the folders of its run; output None: nothing is saved.

    Raises:
        WorkflowError: it is no workflow. FileFormatError: it cannot be read, or nothing can be saved.
    """
    if output is not None:
        check_writable(output)
        remove_abandoned(Path(output))
    given = None if inputs is None else Path(inputs)
    own = None if models is None else Path(models)
    if isinstance(workflow, Mapping):
        return workflow, folders_of(None, Path(output or "output"), given, own)
    return read_workflow(Path(workflow)), folders_of(Path(workflow), Path(output or "output"), given, own)


def setting_texts(settings: Settings) -> list[str]:
    """The settings as `--set` takes them; None leaves the workflow's value."""
    if isinstance(settings, Mapping):
        return texts_of(settings)
    return list(settings)


def result_of(ran: Ran, notes: Sequence[str]) -> Result:
    """The result of a run over a connection, or the error that it ended with."""
    if ran.error is not None:
        raise ran.error
    files = tuple(path for *_, paths in ran.shown for path in paths)
    return Result({node: ui for node, _, ui, _ in ran.shown}, files, tuple(notes))


def _address(server: str, headers: Sequence[str]):
    return read_address(server, headers, os.environ)
