"""A run on a server from beginning to end: describe, set, upload, run, download."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...files.writing import write_whole
from ..progress import Progress
from ..workflow.canvas import class_names
from ..workflow.folders import Folders
from ..workflow.graph import Prompt, Spec, is_canvas, label, read_api, unknown_nodes
from ..workflow.settings import prepared
from .server import Client, Interrupted

Shown = list[tuple[str, str, dict[str, list], list[Path]]]  # node, its name, ui, pictures


def run_there(
    url: str, document: Mapping, settings: Sequence[str], folders: Folders, progress: Progress, notes: list[str]
) -> Shown:
    """Run the workflow on the server; the pictures are in `folders.output` when this returns.

    Raises:
        WorkflowError, NodeFailure, ServerError, Interrupted (after telling the server to stop).
    """
    try:
        return asyncio.run(_cancellable(_run(url, document, settings, folders, progress, notes)))
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        raise Interrupted("stopped; the server was told to stop, too") from error


async def _cancellable(work) -> Shown:
    """Ctrl-C and a polite kill cancel the work, so that it can tell the server (Python 3.10 does not do it itself)."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not in the main thread
            break
    return await task


async def _run(
    url: str, document: Mapping, settings: Sequence[str], folders: Folders, progress: Progress, notes: list[str]
) -> Shown:
    async with Client(url) as client:
        prompt, chosen, specs = await _prepared(client, document, settings, notes)
        await _upload(client, prompt, specs, replace(folders, chosen=chosen))
        outputs = await client.run(prompt, document if is_canvas(document) else None, progress)
        progress.close()
        shown: Shown = []
        for node, ui in outputs.items():
            paths = [await _download(client, entry, folders) for entry in _entries(ui)]
            name = label(prompt, node) if node in prompt else f"node {node}"
            shown.append((node, name, ui, paths))
        return shown


def api_there(url: str, document: Mapping, settings: Sequence[str], notes: list[str]) -> Prompt:
    """The API form of a workflow as the server would get it, values set; nothing is sent.

    Raises:
        WorkflowError, ServerError.
    """

    async def ask() -> Prompt:
        async with Client(url) as client:
            return (await _prepared(client, document, settings, notes))[0]

    return asyncio.run(ask())


async def _prepared(
    client: Client, document: Mapping, settings: Sequence[str], notes: list[str]
) -> tuple[Prompt, dict[str, Path], dict[str, Spec | None]]:
    """The API form with the values set, the pictures that were named by a path, and the specs of its classes."""
    canvas = is_canvas(document)
    prompt = {} if canvas else read_api(document)
    names = set(class_names(document)) if canvas else {found["class_type"] for found in prompt.values()}
    specs = {name: await client.object_info(name) for name in sorted(names)}
    unknown = [label(prompt, node) for node, found in prompt.items() if specs.get(found["class_type"]) is None]
    if unknown:
        raise unknown_nodes(unknown)
    prompt, chosen = prepared(document, settings, specs.get, notes)
    return prompt, chosen, specs


async def _upload(client: Client, prompt: Prompt, specs: Mapping[str, Spec | None], folders: Folders) -> None:
    """Send the pictures that lie here; what does not is expected to be on the server already.

    A picture of the same name but other content stays on the server: the upload gets another name, and the prompt it.
    """
    for found in prompt.values():
        for name, declared in specs[found["class_type"]].inputs.items():
            value = found["inputs"].get(name)
            if not declared.options.get("image_upload") or not isinstance(value, str):
                continue
            path = folders.find(value) if not value.endswith(("[output]", "[temp]")) else None
            if path is None:
                continue
            plain = value.removesuffix("[input]").rstrip().replace("\\", "/")
            subfolder = plain.rpartition("/")[0] if value not in folders.chosen else ""
            found["inputs"][name] = await client.upload(path, subfolder)


def _entries(ui: Mapping) -> list[Mapping]:
    """What of a node's ui is a file on the server."""
    lists = [values for values in ui.values() if isinstance(values, list)]
    return [
        entry
        for values in lists
        for entry in values
        if isinstance(entry, Mapping) and entry.get("filename") and entry.get("type") in ("output", "temp")
    ]


async def _download(client: Client, entry: Mapping, folders: Folders) -> Path:
    """Save a file of the server under its name; under "NAME (2)" where another one has that name here."""
    data = await client.view(entry)
    path = folders.saved(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem, number = path.stem, 2
    while path.exists() and path.read_bytes() != data:
        path = path.with_name(f"{stem} ({number}){path.suffix}")
        number += 1
    write_whole(path, lambda file: file.write(data))
    return path
