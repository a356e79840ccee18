"""What the canvas saves -> the API form, as the frontend's graphToPrompt does it (ComfyUI_frontend 1.49.6:
src/utils/executionUtil.ts, lib/litegraph/src/subgraph/ExecutableNodeDTO.ts, extensions/core/widgetInputs.ts).

Both serialisations are read: version 0.4 (links are arrays) and version 1 (links are objects).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .graph import Prompt, Specs, WorkflowError, unknown_nodes
from .widgets import is_value_for, widget_values

_NOTES = ("Note", "MarkdownNote")
_VIRTUAL = ("Reroute", "PrimitiveNode", *_NOTES)
_MUTED, _BYPASSED = 2, 4


@dataclass(frozen=True)
class _Link:
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True)
class _Canvas:
    nodes: dict[str, Mapping]
    links: dict[str, _Link]


def to_api(document: Mapping, specs: Specs) -> tuple[Prompt, list[str]]:
    """The API form, and sentences on what was left out of it.

    Raises:
        WorkflowError: no canvas JSON, subgraphs, or nodes of classes that `specs` does not know.
    """
    canvas = _read(document)
    active = [node for node in canvas.nodes if _mode(canvas, node) not in (_MUTED, _BYPASSED)]
    _refuse_subgraphs(document, canvas, active)
    prompt: Prompt = {}
    notes: list[str] = []
    unknown: list[str] = []
    for node in active:
        found = canvas.nodes[node]
        if found["type"] in _VIRTUAL:
            continue
        known = specs(found["type"])
        if known is None and not _is_linked(canvas, node):
            notes.append(f"{_label(canvas, node)} has no links and no known class: left out")
        elif known is None:
            unknown.append(_label(canvas, node))
        else:
            inputs = widget_values(found, known, notes, _label(canvas, node))
            inputs |= _primitive_values(canvas, node)
            inputs |= _linked_values(canvas, node, notes)
            prompt[node] = {"class_type": found["type"], "inputs": inputs, "_meta": {"title": _title(found)}}
    if unknown:
        raise unknown_nodes(unknown)
    if not prompt:
        raise WorkflowError("the workflow has no nodes to run: all are notes, muted or bypassed")
    return prompt, notes


def _read(document: Mapping) -> _Canvas:
    nodes: dict[str, Mapping] = {}
    for node in document["nodes"]:
        if (
            not isinstance(node, Mapping)
            or not isinstance(node.get("type"), str)
            or not isinstance(node.get("id"), (int, str))
        ):
            raise WorkflowError("this is no workflow: one of its nodes has no id or no type")
        if str(node["id"]) in nodes:
            raise WorkflowError(f"two nodes have the id {node['id']}: the workflow is damaged")
        nodes[str(node["id"])] = node
    links: dict[str, _Link] = {}
    found = document.get("links") or []
    for link in found.values() if isinstance(found, Mapping) else found:
        if link is None:
            continue
        try:
            if isinstance(link, Mapping):
                number, origin, slot, target, target_slot = (
                    link[key] for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")
                )
            else:
                number, origin, slot, target, target_slot = link[:5]
            links[str(number)] = _Link(str(origin), int(slot), str(target), int(target_slot))
        except (KeyError, TypeError, ValueError) as error:
            raise WorkflowError(
                f"this is no workflow: the link {str(link)[:80]} is neither [id, from, slot, to, slot, "
                "type] nor an object with these"
            ) from error
    return _Canvas(nodes, links)


def _refuse_subgraphs(document: Mapping, canvas: _Canvas, active: list[str]) -> None:
    definitions = (document.get("definitions") or {}).get("subgraphs") or []
    ids = {str(definition.get("id")) for definition in definitions if isinstance(definition, Mapping)}
    inside = [
        _label(canvas, node)
        for node in active
        if canvas.nodes[node]["type"] in ids or canvas.nodes[node]["type"].startswith(("workflow>", "workflow/"))
    ]
    if inside:
        raise WorkflowError(
            f"subgraphs and group nodes are not read here: {'; '.join(inside)}; unpack them in the "
            "canvas, or export the workflow in API format"
        )


def _mode(canvas: _Canvas, node: str) -> int:
    mode = canvas.nodes[node].get("mode", 0)
    return mode if isinstance(mode, int) else 0


def _title(node: Mapping) -> str:
    return str(node.get("title") or node["type"])


def _label(canvas: _Canvas, node: str) -> str:
    found = canvas.nodes[node]
    title = _title(found)
    return f"node {node} {found['type']}" + (f' "{title}"' if title != found["type"] else "")


def _slots(node: Mapping, key: str) -> list[Mapping]:
    slots = node.get(key) or []
    return [slot for slot in slots if isinstance(slot, Mapping)] if isinstance(slots, list) else []


def _is_linked(canvas: _Canvas, node: str) -> bool:
    return any(node in (link.origin, link.target) for link in canvas.links.values())


def _linked_values(canvas: _Canvas, node: str, notes: list[str]) -> dict[str, list]:
    """Input name -> [node, output] for every input whose link ends at a node that runs."""
    result = {}
    for slot, found in enumerate(_slots(canvas.nodes[node], "inputs")):
        if found.get("link") is None:
            continue
        origin = _resolve_input(canvas, node, slot, str(found.get("type", "*")), set())
        if origin is not None:
            result[str(found.get("name"))] = list(origin)
        elif not _from_primitive(canvas, found):
            notes.append(
                f"{_label(canvas, node)}: the link of its input {found.get('name')!r} leads to nothing that "
                "runs (muted or bypassed)"
            )
    return result


def _resolve_input(canvas: _Canvas, node: str, slot: int, kind: str, seen: set) -> tuple[str, int] | None:
    """The output that really feeds this input: through reroutes and bypassed nodes."""
    if (node, slot) in seen:
        raise WorkflowError(f"the reroutes at {_label(canvas, node)} go round in a circle; remove one of the links")
    seen.add((node, slot))
    inputs = _slots(canvas.nodes[node], "inputs")
    if not 0 <= slot < len(inputs) or inputs[slot].get("link") is None:
        return None
    link = canvas.links.get(str(inputs[slot]["link"]))
    if link is None or link.origin not in canvas.nodes:
        raise WorkflowError(
            f"{_label(canvas, node)}: its input {inputs[slot].get('name')!r} has the link "
            f"{inputs[slot]['link']}, which leads nowhere: the workflow is damaged"
        )
    return _resolve_output(canvas, link.origin, link.origin_slot, kind, seen)


def _resolve_output(canvas: _Canvas, node: str, slot: int, kind: str, seen: set) -> tuple[str, int] | None:
    mode = _mode(canvas, node)
    if mode == _MUTED:
        return None
    if mode == _BYPASSED:
        passed = _bypass_slot(canvas.nodes[node], slot, kind)
        own_kind = str(_slots(canvas.nodes[node], "inputs")[passed].get("type", "*")) if passed is not None else kind
        return None if passed is None else _resolve_input(canvas, node, passed, own_kind, seen)
    if canvas.nodes[node]["type"] in _VIRTUAL:
        return _resolve_input(canvas, node, slot, kind, seen)
    return node, slot


def _bypass_slot(node: Mapping, slot: int, kind: str) -> int | None:
    """The input that a bypassed node hands on for this output: same place, else same type, else a fitting type."""
    inputs, outputs = _slots(node, "inputs"), _slots(node, "outputs")
    kinds = [str(found.get("type", "*")) for found in inputs]
    own = str(outputs[slot].get("type", "*")) if 0 <= slot < len(outputs) else "*"
    if not kinds:
        return None
    if kind in ("*", ""):
        return slot if len(kinds) > slot else 0
    if slot < len(kinds) and is_value_for(kinds[slot], own) and is_value_for(kinds[slot], kind):
        return slot
    if kind in kinds:
        return kinds.index(kind)
    return next(
        (place for place, found in enumerate(kinds) if is_value_for(found, own) and is_value_for(found, kind)), None
    )


def _from_primitive(canvas: _Canvas, found: Mapping) -> bool:
    link = canvas.links.get(str(found.get("link")))
    return link is not None and canvas.nodes.get(link.origin, {}).get("type") == "PrimitiveNode"


def _primitive_values(canvas: _Canvas, node: str) -> dict[str, object]:
    """Values that PrimitiveNodes write into this node's widgets."""
    result = {}
    for found in _slots(canvas.nodes[node], "inputs"):
        if not _from_primitive(canvas, found):
            continue
        primitive = canvas.nodes[canvas.links[str(found["link"])].origin]
        values = primitive.get("widgets_values")
        if isinstance(values, list) and values:
            result[str((found.get("widget") or found).get("name"))] = values[0]
    return result
