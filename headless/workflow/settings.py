"""`--set node.input=value`: which node is meant, and the value in the input's type."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from .check import typed
from .graph import Input, Prompt, Specs, WorkflowError, label


def with_settings(prompt: Prompt, settings: Sequence[str], specs: Specs) -> tuple[Prompt, dict[str, Path]]:
    """The prompt with the values set, and the files that were named by a path of this machine.

    A node is named by its id, its title or its class. A set value replaces a link, too.

    Raises:
        WorkflowError: no such node or input (names the nearest), several nodes of that name, a value of another type.
    """
    result = {node: {**found, "inputs": dict(found["inputs"])} for node, found in prompt.items()}
    chosen: dict[str, Path] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        name, dot, wanted = key.rpartition(".")
        if not (equals and dot and name and wanted):
            raise WorkflowError(f"--set {setting!r}: expected node.input=value, the node by id, title or class")
        node = _node(prompt, name)
        known = specs(prompt[node]["class_type"])
        if known is None or wanted not in known.inputs:
            names = list(known.inputs) if known else []
            near = difflib.get_close_matches(wanted, names, 3, 0.4) or names
            raise WorkflowError(
                f"--set {setting!r}: {label(prompt, node)} has no input {wanted!r}; "
                + (f"it has {', '.join(near)}" if near else "it has none")
            )
        found = known.inputs[wanted]
        path = Path(text).expanduser()
        if found.takes_file and path.is_file():
            chosen[text] = path.resolve()
            result[node]["inputs"][wanted] = text
            continue
        try:
            value = _value(found, text, bounds=wanted not in known.validates and None not in known.validates)
        except ValueError as error:
            raise WorkflowError(f"--set {setting!r}: {error}") from error
        result[node]["inputs"][wanted] = value
    return result, chosen


def _node(prompt: Prompt, name: str) -> str:
    """The one node of this id, title or class."""
    if name in prompt:
        return name
    titles = [node for node, found in prompt.items() if (found.get("_meta") or {}).get("title") == name]
    matches = titles or [node for node, found in prompt.items() if found["class_type"] == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise WorkflowError(
            f"--set {name!r} can be any of {', '.join(label(prompt, node) for node in matches)}; use the id"
        )
    names = {
        str(text): None
        for node, found in prompt.items()
        for text in (node, (found.get("_meta") or {}).get("title") or node, found["class_type"])
    }
    near = difflib.get_close_matches(name, names, 3, 0.4)
    raise WorkflowError(
        f"--set: there is no node {name!r}; "
        + (f"near are {', '.join(near)}" if near else f"there are {', '.join(label(prompt, node) for node in prompt)}")
    )


def _value(found: Input, text: str, *, bounds: bool) -> object:
    """The text as a value of the input's type."""
    if found.kind == "COMBO":
        same = [choice for choice in found.choices or () if str(choice) == text]
        return same[0] if same else typed(found, text, bounds=bounds and not found.takes_file)
    if found.kind not in ("INT", "FLOAT", "STRING", "BOOLEAN"):
        raise ValueError(f"a {found.kind} comes through a link and cannot be set")
    return typed(found, text, bounds=bounds)
