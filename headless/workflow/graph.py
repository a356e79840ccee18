"""A workflow as nodes and links: what a class wants (its spec), the API form, the order of execution.

API form: {"3": {"class_type": "CVL_LoadVAE", "inputs": {"file": "a.safetensors", "image": ["1", 0]}, "_meta": ...}};
a list of a node id and a number is a link to that node's output.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

Prompt = dict[str, dict]
ANY = "*"
_LABEL, _LABELS = 120, 50  # letters of a name, and names, that a sentence gives


class WorkflowError(ValueError):
    """The workflow, or what was asked of it, is wrong; nothing ran."""


class NodeFailure(RuntimeError):
    """A node failed while running; the message names it."""


class NodeClass(Protocol):
    """A node class as ComfyUI's packs write it; VALIDATE_INPUTS, OUTPUT_NODE and the like may be absent."""

    RETURN_TYPES: tuple[object, ...]
    FUNCTION: str

    def INPUT_TYPES(self) -> Mapping:  # a class method
        """The table of inputs: "required", "optional", "hidden"."""
        ...

    def __call__(self) -> object:
        """Make a node."""
        ...


@dataclass(frozen=True)
class Input:
    """One input of a class: its type, or the list of its choices, and its options."""

    kind: str
    choices: tuple | None
    options: Mapping[str, object]
    required: bool

    @property
    def takes_file(self) -> bool:
        """Whether its value is the name of a file in the input folder, which the canvas offers to upload."""
        return any(self.options.get(f"{kind}_upload") for kind in ("image", "animated_image", "audio", "video", "file"))


@dataclass(frozen=True)
class Spec:
    """What a class says about itself; the same from a Python class and from a server's /object_info."""

    inputs: Mapping[str, Input]
    outputs: tuple[str, ...]
    output_node: bool
    validates: frozenset[str | None] = frozenset()  # what VALIDATE_INPUTS names: the host leaves those inputs to it
    title: str = ""  # what the canvas calls the class


Specs = Callable[[str], "Spec | None"]


def spec_of(specs: Specs, name: str) -> Spec:
    """The spec of a class that was found to be there.

    Raises:
        WorkflowError: it is not.
    """
    found = specs(name)
    if found is None:
        raise unknown_nodes([name])
    return found


def spec(
    input_types: Mapping, outputs: tuple | list, output_node: bool, order: Mapping | None = None, title: str = ""
) -> Spec:
    """From INPUT_TYPES() (or /object_info's `input`), RETURN_TYPES (`output`), OUTPUT_NODE and `input_order`."""
    kinds = tuple("COMBO" if isinstance(kind, (list, tuple)) else str(kind) for kind in outputs)
    return Spec(declared_inputs(input_types, order or {}), kinds, output_node, title=title)


def server_spec(found: Mapping) -> Spec:
    """The spec of a class as a server's /object_info describes it."""
    return spec(
        found.get("input") or {},
        found.get("output") or [],
        bool(found.get("output_node")),
        found.get("input_order"),
        str(found.get("display_name") or found.get("name") or ""),
    )


def declared_inputs(input_types: Mapping, order: Mapping) -> dict[str, Input]:
    """The inputs of a class, or those that an option of a dynamic combo brings, in the order of the canvas."""
    inputs: dict[str, Input] = {}
    for section in ("required", "optional"):
        declared = input_types.get(section) or {}
        first = [name for name in order.get(section) or () if name in declared]
        for name in dict.fromkeys([*first, *declared]):
            inputs.setdefault(name, _input(declared[name], section == "required"))
    return inputs


def _input(declared: object, required: bool) -> Input:
    first = declared[0] if isinstance(declared, (list, tuple)) else declared
    options = declared[1] if isinstance(declared, (list, tuple)) and len(declared) > 1 else {}
    options = options if isinstance(options, Mapping) else {}
    if isinstance(first, (list, tuple)):
        return Input("COMBO", tuple(first), options, required)
    listed = options.get("options") if first == "COMBO" else None
    return Input(str(first), tuple(listed) if isinstance(listed, (list, tuple)) else None, options, required)


def class_spec(node_class: NodeClass) -> Spec:
    """The spec of a V1 node class."""
    found = spec(node_class.INPUT_TYPES(), node_class.RETURN_TYPES, bool(getattr(node_class, "OUTPUT_NODE", False)))
    function = getattr(node_class, "VALIDATE_INPUTS", None)
    if function is None:
        return found
    parameters = inspect.signature(function).parameters.values()
    return replace(
        found,
        validates=frozenset(None if one.kind is inspect.Parameter.VAR_KEYWORD else one.name for one in parameters),
    )


def link_of(value: object) -> tuple[str, int] | None:
    """The node and output that a value points at, or None for an ordinary value."""
    if (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], (str, int))
        and type(value[1]) is int
        and not isinstance(value[0], bool)
    ):
        return str(value[0]), value[1]
    return None


def label(prompt: Prompt, node: str) -> str:
    """How messages name a node: `node 3 CVL_LoadVAE "my title"`."""
    found = prompt[node]
    title = (found.get("_meta") or {}).get("title") or ""
    return f"node {node} {found['class_type']}" + (f' "{title}"' if title not in ("", found["class_type"]) else "")


def unknown_nodes(labels: list[str]) -> WorkflowError:
    """The error for nodes of classes that are not there."""
    short = [label if len(label) <= _LABEL else label[: _LABEL - 3] + "..." for label in labels[:_LABELS]]
    short += [f"and {len(labels) - _LABELS} more"] if len(labels) > _LABELS else []
    return WorkflowError(
        f"these nodes are not known here: {'; '.join(short)}; install the packs that have them where the workflow "
        "runs, or run it with --server on a ComfyUI that has them"
    )


def is_canvas(document: Mapping) -> bool:
    """Whether the document is what the canvas saves (nodes and links), not the API form."""
    return isinstance(document.get("nodes"), list)


def read_api(document: Mapping) -> Prompt:
    """The API form with every node checked for its shape; {"prompt": {...}}, as sent to a server, is accepted, too.

    Raises:
        WorkflowError: it is no workflow.
    """
    if isinstance(document.get("prompt"), Mapping) and "class_type" not in document["prompt"]:
        document = document["prompt"]
    if not document:
        raise WorkflowError("the workflow is empty: it has no nodes")
    prompt: Prompt = {}
    for node, value in document.items():
        if not isinstance(value, Mapping) or not isinstance(value.get("class_type"), str):
            raise WorkflowError(
                f"this is no workflow: the entry {str(node)[:40]!r} has no class_type; expected "
                "what the canvas saves, or its export in API format"
            )
        inputs, meta = value.get("inputs", {}), value.get("_meta") or {}
        if not isinstance(inputs, Mapping) or not isinstance(meta, Mapping):
            raise WorkflowError(f"node {node} {value['class_type']}: its inputs are not a table of names and values")
        prompt[str(node)] = {"class_type": value["class_type"], "inputs": dict(inputs), "_meta": dict(meta)}
    return prompt


def execution_order(prompt: Prompt, targets: list[str]) -> list[str]:
    """The nodes that lead to the targets, each after those it needs; the same for the same workflow.

    Raises:
        WorkflowError: nodes that need each other in a circle, or a link to a node that is not there.
    """
    order: list[str] = []
    done: set[str] = set()
    for target in targets:
        path: list[tuple[str, list[str]]] = [(target, _needs(prompt, target))] if target not in done else []
        open_nodes = {node for node, _ in path}
        while path:
            node, needs = path[-1]
            if not needs:
                path.pop()
                open_nodes.discard(node)
                done.add(node)
                order.append(node)
                continue
            following = needs.pop(0)
            if following in open_nodes:
                circle = [name for name, _ in path]
                circle = circle[circle.index(following) :] + [following]
                raise WorkflowError(f"nodes need each other in a circle: {' <- '.join(circle)}; remove one link")
            if following not in done:
                open_nodes.add(following)
                path.append((following, _needs(prompt, following)))
    return order


def _needs(prompt: Prompt, node: str) -> list[str]:
    links = {name: link_of(value) for name, value in prompt[node]["inputs"].items()}
    for name, link in links.items():
        if link and link[0] not in prompt:
            raise WorkflowError(
                f"{label(prompt, node)}: its input {name!r} is linked to node {link[0]}, which is not in the workflow"
            )
    return list(dict.fromkeys(link[0] for link in links.values() if link))
