"""Runs a checked workflow in this process, by ComfyUI's rules (execution.py: map over lists, hidden inputs, ui)."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import torch

from ...nodes.host.alone.absence import Absent
from .graph import NodeClass, NodeFailure, Prompt, label, link_of

Outputs = list[list]  # for each output of a node, the list of its values
OnNode = Callable[[str], None]


def execute(
    prompt: Prompt,
    order: list[str],
    classes: Mapping[str, NodeClass],
    workflow: Mapping | None = None,
    on_node: OnNode = lambda node: None,
) -> Iterator[tuple[str, dict[str, list]]]:
    """Run the nodes in order and give (node, ui) after each that returned ui.

    `workflow` is what the canvas saved: nodes get it as EXTRA_PNGINFO. What a node gave is kept until the last node
    that needs it has run.

    Raises:
        NodeFailure: a node raised; the message names the node, the kind of error and its words.
    """
    values: dict[str, Outputs] = {}
    waiting = Counter(link[0] for node in order for link in map(link_of, prompt[node]["inputs"].values()) if link)
    for node in order:
        on_node(node)
        found = prompt[node]
        node_class = classes[found["class_type"]]
        hidden = _hidden(node_class, node, prompt, workflow)
        try:
            with torch.inference_mode():
                values[node], ui = _run(node_class, _gathered(found["inputs"], values), hidden)
        except NodeFailure as error:
            raise NodeFailure(f"{label(prompt, node)} failed: {error}") from error
        except Exception as error:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "  # a ValueError is a sentence
            raise NodeFailure(f"{label(prompt, node)} failed: {kind}{error}") from error
        for link in map(link_of, found["inputs"].values()):
            if link:
                waiting[link[0]] -= 1
                if not waiting[link[0]]:
                    values.pop(link[0], None)
        if ui:
            yield node, ui


def _gathered(inputs: Mapping[str, object], values: Mapping[str, Outputs]) -> dict[str, list]:
    """Each input as the list of its values: one for a constant, as many as the linked output has for a link."""
    links = {name: link_of(value) for name, value in inputs.items()}
    return {name: values[link[0]][link[1]] if (link := links[name]) else [value] for name, value in inputs.items()}


def _hidden(node_class: NodeClass, node: str, prompt: Prompt, workflow: Mapping | None) -> dict[str, object]:
    declared = node_class.INPUT_TYPES().get("hidden") or {}
    known = {"UNIQUE_ID": node, "PROMPT": prompt, "EXTRA_PNGINFO": None if workflow is None else {"workflow": workflow}}
    kinds = {name: kind[0] if isinstance(kind, (list, tuple)) else kind for name, kind in declared.items()}
    return {name: known[kind] for name, kind in kinds.items() if kind in known}


def _run(node_class: NodeClass, inputs: dict[str, list], hidden: dict[str, object]) -> tuple[Outputs, dict[str, list]]:
    """Call the node once, or once for each place of the longest list; shorter lists repeat their last value."""
    function = getattr(node_class(), node_class.FUNCTION)
    if getattr(node_class, "INPUT_IS_LIST", False):
        calls = [inputs | {name: [value] for name, value in hidden.items()}]
    else:
        empty = [name for name, values in inputs.items() if not values]
        if empty:
            raise NodeFailure(f"its input {empty[0]!r} got an empty list: the node before it gave nothing")
        count = max((len(values) for values in inputs.values()), default=1)
        calls = [
            {name: values[min(index, len(values) - 1)] for name, values in inputs.items()} | hidden
            for index in range(count)
        ]
    results, uis = [], []
    for arguments in calls:
        absent = _absent(arguments)
        if absent is not None:
            results.append((Absent(None),) * len(node_class.RETURN_TYPES))
            uis.append({} if absent.why is None else {"text": [f"did not run: {absent.why}"]})
            continue
        answer = function(**arguments)
        if inspect.isawaitable(answer):
            answer = asyncio.run(_wait(answer))
        result, ui = _parts(node_class, answer)
        results.append(result)
        uis.append(ui)
    return _merged(node_class, results), _merged_ui(uis)


def _absent(arguments: Mapping[str, object]) -> Absent | None:
    """The first input that has nothing to carry, if any (ComfyUI: execution.py, ExecutionBlocker)."""
    values = [one for value in arguments.values() for one in (value if isinstance(value, list) else [value])]
    return next((value for value in values if isinstance(value, Absent)), None)


async def _wait(answer) -> object:
    return await answer


def _parts(node_class: NodeClass, answer: object) -> tuple[tuple, dict]:
    """A node's answer as its outputs and its ui: (a, b) or {"ui": ..., "result": (a, b)}."""
    ui: dict = {}
    if isinstance(answer, dict):
        if "expand" in answer:
            raise NodeFailure("it expands into other nodes, which is not done here; run it on a ComfyUI with --server")
        ui, answer = answer.get("ui") or {}, answer.get("result", ())
    count = len(node_class.RETURN_TYPES)
    if not isinstance(answer, (tuple, list)) or len(answer) != count and (count or answer):
        if not (answer == () or answer is None) or count:
            raise NodeFailure(
                f"it should give {count} outputs and gave {type(answer).__name__}"
                + (f" of {len(answer)}" if isinstance(answer, (tuple, list)) else "")
            )
    return tuple(answer or ()), ui


def _merged(node_class: NodeClass, results: list[tuple]) -> Outputs:
    is_list = getattr(node_class, "OUTPUT_IS_LIST", None) or (False,) * len(node_class.RETURN_TYPES)
    merged: Outputs = []
    for slot in range(len(node_class.RETURN_TYPES)):
        if is_list[slot]:
            lists = [[found] if isinstance(found, Absent) else found for found in (result[slot] for result in results)]
            merged.append([value for found in lists for value in found])
        else:
            merged.append([result[slot] for result in results])
    return merged


def _merged_ui(uis: list[dict]) -> dict[str, list]:
    keys = dict.fromkeys(key for ui in uis for key in ui)
    return {key: [value for ui in uis for value in ui.get(key, ())] for key in keys}
