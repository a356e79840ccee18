"""Nodes that live in the canvas alone: reroutes, primitives, notes, Set and Get, switches of other packs.

From ComfyUI_frontend 1.49.6: extensions/core/rerouteNode.ts, widgetInputs.ts, widgetValuePropagation.ts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..graph import WorkflowError
from .graphs import Graph, Node, Slot
from .kinds import widget_kind
from .widgets import Widgets

PRIMITIVE = "PrimitiveNode"
_PASSING = ("Reroute", "Reroute (rgthree)")
_SETTERS = ("SetNode", "easy setNode")
_GETTERS = ("GetNode", "easy getNode")
VIRTUAL = frozenset((*_PASSING, *_SETTERS, *_GETTERS, PRIMITIVE, "Note", "MarkdownNote"))
_EVERYWHERE = ("Anything Everywhere", "Anything Everywhere3", "Anything Everywhere?", "Prompts Everywhere")
_REPLACE = "Run widget replace on values"


def passes_on(node: Node) -> bool:
    """Whether what comes in at the first input goes out again."""
    return node.kind in _PASSING or node.kind in _SETTERS


def setter_of(getter: Node, graph: Graph) -> Node | None:
    """The node that sets what this one gets; None when it gets nothing.

    Raises:
        WorkflowError: no node sets a value of that name.
    """
    if getter.kind not in _GETTERS:
        return None
    name = _name(getter)
    found = next((node for node in graph.nodes.values() if node.kind in _SETTERS and _name(node) == name), None)
    if found is None:
        raise WorkflowError(f"node {getter.label} gets {name!r}, which no Set node of the same graph sets")
    return found


def refuse_everywhere(nodes: Iterable[Node]) -> None:
    """Broadcasting nodes link by rules of their own pack's browser code.

    Raises:
        WorkflowError: there is one.
    """
    for node in nodes:
        if node.kind in _EVERYWHERE and any(slot.link for slot in node.inputs):
            raise WorkflowError(
                f"node {node.label} sends its input to whatever is free, by browser code of its own pack; "
                "turn these into real links in the canvas, or export the workflow in API format"
            )


def apply_primitives(graph: Graph, widgets_of: Callable[[Node], Widgets], rewritten: Callable[[str], str]) -> None:
    """Write what PrimitiveNodes hold into the widgets that they are linked to."""
    primitives = {node.id: node for node in graph.nodes.values() if node.kind == PRIMITIVE}
    if not primitives:
        return
    for target in graph.nodes.values():
        held = None
        for slot in target.inputs:
            link = graph.links.get(slot.link) if slot.link is not None else None
            primitive = primitives.get(link.origin) if link else None
            if primitive is None or not isinstance(primitive.values, list) or not primitive.values:
                continue
            held = widgets_of(target) if held is None else held
            name = slot.name if slot.name in held else slot.widget
            if name in held and widget_kind(held[name].declared):
                value = primitive.values[0]
                if isinstance(value, str) and value and primitive.properties.get(_REPLACE):
                    value = rewritten(value)
                held[name].value = value


def fed_by_primitive(slot: Slot, graph: Graph) -> bool:
    """Whether a primitive writes into the widget of this input."""
    link = graph.links.get(slot.link) if slot.link is not None else None
    return link is not None and link.origin in graph.nodes and graph.nodes[link.origin].kind == PRIMITIVE


def _name(node: Node) -> object:
    values = node.values
    if isinstance(values, list) and values:
        return values[0]
    return next(iter(values.values()), None) if isinstance(values, dict) else None
