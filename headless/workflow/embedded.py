"""A workflow of our nodes and the stock stand-ins, run in this process; no ComfyUI needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from ..progress import Progress
from .check import checked
from .execute import execute
from .folders import Folders
from .graph import ANY, NodeClass, Prompt, Specs, class_spec, is_canvas, label
from .settings import prepared
from .stock_nodes import stock_nodes


def run_here(
    document: Mapping, settings: Sequence[str], folders: Folders, progress: Progress, notes: list[str]
) -> Iterator[tuple[str, str, dict[str, list], list]]:
    """Check, run, and give (node, its name, ui, paths of its pictures) for each node that shows something.

    Raises:
        WorkflowError: before anything ran. NodeFailure: a node raised. FileFormatError: from checking.
    """
    _tell_host(folders, progress)
    prompt, order, classes, folders = ready(document, settings, folders, notes)

    def on_node(node: str) -> None:
        progress.node(f"[{order.index(node) + 1}/{len(order)}] {label(prompt, node)}")

    workflow = document if is_canvas(document) else None
    for node, ui in execute(prompt, order, classes, workflow, on_node):
        progress.close()
        paths = [
            folders.saved(entry)
            for entries in ui.values()
            for entry in entries
            if isinstance(entry, Mapping) and "filename" in entry
        ]
        yield node, label(prompt, node), ui, paths


def ready(
    document: Mapping, settings: Sequence[str], folders: Folders, notes: list[str]
) -> tuple[Prompt, list[str], dict[str, NodeClass], Folders]:
    """The checked prompt, the order of its nodes, their classes, and the folders with the files that were named.

    Raises:
        WorkflowError: as in run_here.
    """
    classes = _classes(folders)
    prompt, chosen = prepared(document, settings, specs_of(classes), notes)
    folders = replace(folders, chosen=chosen)
    classes |= stock_nodes(folders)
    return *checked(prompt, specs_of(classes), classes), classes, folders


def api_here(document: Mapping, settings: Sequence[str], folders: Folders, notes: list[str]) -> Prompt:
    """The API form of a workflow for a run in this process, values set; nothing runs.

    Raises:
        WorkflowError: as in run_here.
    """
    return prepared(document, settings, specs_of(_classes(folders)), notes)[0]


def specs_of(classes: Mapping[str, NodeClass]) -> Specs:
    """Class name -> spec, None for classes that are not there; INPUT_TYPES is asked once per class."""
    seen: dict = {}

    def find(name: str):
        if name not in seen:
            seen[name] = class_spec(classes[name]) if name in classes else None
        return seen[name]

    return find


def own_specs(folders: Folders, progress: Progress) -> Specs:
    """The specs of the nodes of this process: the pack's and the stock stand-ins."""
    _tell_host(folders, progress)
    return specs_of(_classes(folders))


class _Taken:
    """A node behind the output that is asked for."""

    RETURN_TYPES = ()
    FUNCTION = "take"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (ANY, {})}}

    def take(self, value):
        return {"ui": {"value": [value]}}


def value_here(graph: Prompt, link: tuple[str, int], folders: Folders, progress: Progress) -> object:
    """Run nodes in API format, and return what an output of one of them gives.

    Raises:
        WorkflowError, NodeFailure: as in run_here.
    """
    _tell_host(folders, progress)
    classes = {**_classes(folders), **stock_nodes(folders), _Taken.__name__: cast(NodeClass, _Taken)}
    taker = {"class_type": _Taken.__name__, "inputs": {"value": list(link)}, "_meta": {"title": "the training"}}
    prompt, order = checked({**graph, " taken": taker}, specs_of(classes), classes)
    *_, (_, ui) = execute(prompt, order, classes)
    return ui["value"][0]


def _classes(folders: Folders) -> dict[str, NodeClass]:
    from ...nodes import NODE_CLASS_MAPPINGS  # here, so that talking to a server needs no torch

    return {**stock_nodes(folders), **cast(dict[str, NodeClass], NODE_CLASS_MAPPINGS)}


def _tell_host(folders: Folders, progress: Progress) -> None:
    """Where models lie and previews go, and who is told of the steps of a node."""
    from ...nodes.host import host

    host.set_place(
        models=folders.models, temp=folders.temp, on_step=progress.step, output=folders.output, inputs=folders.inputs
    )
