"""`--set node.input=value`: which node is meant, and the value in the input's type."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...files.documents import parse_json
from .canvas import FrontEnd, Shown, convert
from .canvas.kinds import DYNAMIC, dynamic_options, widget_kind
from .canvas.widgets import all_inputs, brought_inputs, defaults
from .check import typed
from .graph import ANY, Input, Prompt, Specs, WorkflowError, execution_order, is_canvas, label, link_of, read_api


def prepared(
    document: Mapping,
    settings: Sequence[str],
    specs: Specs,
    notes: list[str],
    front_end: FrontEnd | None = None,
) -> tuple[Prompt, dict[str, Path]]:
    """The API form of any workflow with the values set, and the files that were named by a path of this machine.

    `front_end` is as in convert.

    Raises:
        WorkflowError: as in convert, read_api and with_settings.
    """
    prompt, shown = opened(document, specs, notes, front_end)
    return with_settings(prompt, settings, specs, shown)


def refuse_links(prompt: Prompt, specs: Specs) -> None:
    """Links to nodes and to outputs that are not there, of which servers say nothing that helps.

    Raises:
        WorkflowError: names the first.
    """
    for node, found in prompt.items():
        known = specs(found["class_type"])
        declared = all_inputs(known, found["inputs"]) if known else {}
        for name, link in ((name, link_of(found["inputs"].get(name))) for name in declared):
            if link is None:
                continue
            own = f"{label(prompt, node)}: its input {name!r} is linked to "
            if link[0] not in prompt:
                raise WorkflowError(f"{own}node {link[0]}, which is not in the workflow")
            source = specs(prompt[link[0]]["class_type"])
            if source is not None and not 0 <= link[1] < len(source.outputs):
                raise WorkflowError(
                    f"{own}output {link[1]} of {label(prompt, link[0])}, which has {len(source.outputs)} outputs"
                )


def opened(
    document: Mapping, specs: Specs, notes: list[str], front_end: FrontEnd | None = None
) -> tuple[Prompt, Mapping[str, Shown]]:
    """The API form of any workflow, and what its subgraphs show; `front_end` is as in convert.

    Raises:
        WorkflowError: as in convert and read_api.
    """
    if not is_canvas(document):
        return read_api(document), {}
    found = convert(document, specs, front_end=front_end)
    notes += found.notes
    execution_order(found.prompt, list(found.prompt))  # names a circle, if there is one
    return found.prompt, found.shown


def with_settings(
    prompt: Prompt, settings: Sequence[str], specs: Specs, shown: Mapping[str, Shown] | None = None
) -> tuple[Prompt, dict[str, Path]]:
    """The prompt with the values set, and the files that were named by a path of this machine.

    A node is named by its id, its title or its class; an instance of a subgraph (`shown`) by its id or title, its
    inputs by name or label. Inputs may be dotted (format.codec). A set value replaces a link, too.

    Raises:
        WorkflowError: no such node or input (names the nearest), several nodes of that name, a value of another type.
    """
    result = {node: {**found, "inputs": dict(found["inputs"])} for node, found in prompt.items()}
    chosen: dict[str, Path] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not (equals and key.strip(".").count(".")):
            raise WorkflowError(f"--set {setting!r}: expected node.input=value, the node by id, title or class")
        for node, wanted in _targets(result, key, shown or {}, setting):
            _set(result, node, wanted, text, specs, chosen, setting)
    return result, chosen


def _targets(prompt: Prompt, key: str, shown: Mapping[str, Shown], setting: str) -> list[tuple[str, str]]:
    """The inputs that `node.input` means: one, or those inside a subgraph that its instance gives a value to."""
    parts = key.split(".")
    splits = [(".".join(parts[:cut]), ".".join(parts[cut:])) for cut in range(len(parts) - 1, 0, -1)]
    for name, wanted in splits:
        if not name or not wanted:
            continue
        instances = [outer for node, outer in shown.items() if name in (node, outer.title)]
        if instances and name not in prompt:
            return _inside(instances, name, wanted, setting)
        if name in prompt or any(name in _names(found) for found in prompt.values()):
            return [(_node(prompt, name), wanted)]
    return [(_node(prompt, splits[0][0]), splits[0][1])]


def _inside(instances: list[Shown], name: str, wanted: str, setting: str) -> list[tuple[str, str]]:
    if len(instances) > 1:
        raise WorkflowError(f"--set {setting!r}: {len(instances)} subgraphs are called {name!r}; use the id of one")
    outer = instances[0]
    found = outer.inputs.get(outer.labels.get(wanted, wanted)) or outer.inputs.get(wanted)
    if found:
        return found
    there = [*outer.inputs, *(label for label, own in outer.labels.items() if own in outer.inputs)]
    near = difflib.get_close_matches(wanted, there, 3, 0.4) or there
    raise WorkflowError(
        f"--set {setting!r}: the subgraph {name!r} shows no value {wanted!r}; "
        + (f"it shows {', '.join(near)}" if near else "it shows none")
    )


def _set(
    result: Prompt, node: str, wanted: str, text: str, specs: Specs, chosen: dict[str, Path], setting: str
) -> None:
    """Put the value into the input; a chosen option of a dynamic combo brings its own inputs with it."""
    inputs = result[node]["inputs"]
    known = specs(result[node]["class_type"])
    declared = all_inputs(known, inputs) if known else {}
    if wanted not in declared:
        names = list(declared)
        near = difflib.get_close_matches(wanted, names, 3, 0.4) or names
        raise WorkflowError(
            f"--set {setting!r}: {label(result, node)} has no input {wanted!r}; "
            + (f"it has {', '.join(near)}" if near else "it has none")
        )
    found = declared[wanted]
    path = _file(text) if found.takes_file else None
    if path is not None:
        chosen[text] = path
        inputs[wanted] = text
        return
    try:
        inputs[wanted] = _value(found, text, result, bounds=known is None or not {wanted, None} & known.validates)
    except ValueError as error:
        raise WorkflowError(f"--set {setting!r}: {error}") from error
    if found.kind == DYNAMIC:
        brought = brought_inputs(wanted, found, inputs[wanted])
        for name in [name for name in inputs if name.startswith(f"{wanted}.") and name not in brought]:
            if not any(name.startswith(f"{one}.") for one in brought):
                del inputs[name]
        for name, value in defaults(brought).items():
            inputs.setdefault(name, value)


def _file(text: str) -> Path | None:
    """The file of this machine that the text names, if it names one."""
    try:
        path = Path(text).expanduser().resolve()
        return path if path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long for a name, nobody's home, a zero byte
        return None


def _names(found: Mapping) -> tuple[object, str]:
    return (found.get("_meta") or {}).get("title"), found["class_type"]


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


def _value(found: Input, text: str, prompt: Prompt, *, bounds: bool) -> object:
    """The text as a value of the input's type; JSON for links, and for types that are more than a word or a number."""
    link = _link(text)
    if link is not None and link[0] in prompt:
        return list(link)
    if found.kind == "COMBO":
        same = [choice for choice in found.choices or () if str(choice) == text]
        if same or not text.startswith("["):
            return same[0] if same else typed(found, text, bounds=bounds and not found.takes_file)
    if found.kind == DYNAMIC:
        options = list(dynamic_options(found))
        return typed(replace(found, kind="COMBO", choices=tuple(options)), text, bounds=True)
    if found.kind in ("INT", "FLOAT", "STRING", "BOOLEAN"):
        return typed(found, text, bounds=bounds)
    if found.kind == ANY or "," in found.kind:
        return _any_of(found, text)
    kind = widget_kind(found)
    try:
        value = parse_json(text)
    except ValueError as error:
        if kind is not None and isinstance(kind.default, str):
            return text
        if kind is None:
            raise _only_linked(found) from error
        raise ValueError(f"a {found.kind} is set as JSON, and this is {text[:60]!r}") from error
    if kind is None and link is not None:
        raise ValueError(f"there is no node {link[0]!r} in the workflow that could be linked to")
    if kind is None:
        raise _only_linked(found)
    return {"__value__": value} if isinstance(value, list) else value


def _link(text: str) -> tuple[str, int] | None:
    """The link that a text is, as JSON: ["5", 0]."""
    try:
        return link_of(parse_json(text)) if text.lstrip().startswith("[") else None
    except ValueError:
        return None


def _any_of(found: Input, text: str) -> object:
    """The text in the first of the types that the input takes and that fits it: "FLOAT,INT,BOOLEAN", "*"."""
    kinds = [kind.strip() for kind in found.kind.split(",")]
    for kind in ("INT", "FLOAT", "BOOLEAN", "STRING"):
        if kind in kinds or found.kind == ANY:
            try:
                return typed(replace(found, kind=kind), text, bounds=True)
            except ValueError:
                continue
    raise _only_linked(found)


def _only_linked(found: Input) -> ValueError:
    return ValueError(f'a {found.kind} comes through a link and is set as one, ["5", 0] for the first output of node 5')
