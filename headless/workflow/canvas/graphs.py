"""What the canvas saves, as graphs: nodes, links, and the definitions of subgraphs.

Both serialisations are read: version 0.4 (links are arrays) and version 1 (links are objects; subgraphs always).
From ComfyUI_frontend 1.49.6: lib/litegraph/src/LGraph.ts (configure), subgraph/subgraphDeduplication.ts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..graph import WorkflowError

MUTED, BYPASSED = 2, 4
BOUNDARY_IN = "-10"  # the origin of links that come into a subgraph from outside
BOUNDARY_OUT = "-20"


@dataclass(frozen=True)
class Link:
    """From an output to an input, both by their place."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True)
class Slot:
    """A socket of a node: `widget` is the widget it stands for, if any; an output may have several links."""

    name: str
    kind: str
    link: str | None = None
    links: tuple[str, ...] = ()
    widget: str | None = None
    label: str = ""


@dataclass(frozen=True, eq=False)
class Node:
    """A node as it was saved; `values` is widgets_values, a list or a table."""

    id: str
    kind: str
    mode: int
    title: str
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    values: object
    named: Mapping[str, object]
    properties: Mapping[str, object]

    @property
    def label(self) -> str:
        """How messages name it, after the ids of the subgraphs that it is in."""
        return f"{self.id} {self.kind}" + (f' "{self.title}"' if self.title not in ("", self.kind) else "")


@dataclass(frozen=True, eq=False)
class Graph:
    """The root, or what a subgraph is: `inputs` and `outputs` are the boundary, each with its links inside."""

    name: str
    nodes: Mapping[str, Node]
    links: Mapping[str, Link]
    inputs: tuple[Slot, ...] = ()
    outputs: tuple[Slot, ...] = ()


@dataclass(frozen=True, eq=False)
class Document:
    """A whole workflow."""

    root: Graph
    subgraphs: Mapping[str, Graph] = field(default_factory=dict)

    def graphs(self) -> Iterator[Graph]:
        """Every subgraph and the root, each after those that it uses; a circle is broken somewhere."""
        done: set[int] = set()
        begun: set[int] = set()
        for start in (*self.subgraphs.values(), self.root):
            stack = [start]
            while stack:
                graph = stack[-1]
                begun.add(id(graph))
                waiting = [one for one in self.inside(graph) if id(one) not in begun]
                if waiting:
                    stack.append(waiting[0])
                    continue
                stack.pop()
                if id(graph) not in done:
                    done.add(id(graph))
                    yield graph

    def inside(self, graph: Graph) -> list[Graph]:
        """What the instances of subgraphs in a graph are."""
        return [self.subgraphs[node.kind] for node in graph.nodes.values() if node.kind in self.subgraphs]


def read_document(document: Mapping, *, unique_ids: bool = True) -> Document:
    """The graphs of a canvas JSON, ids of nodes inside subgraphs as the canvas makes them unique, where it does.

    Raises:
        WorkflowError: no canvas JSON, or a damaged one.
    """
    root_nodes = _raw_nodes(document)
    definitions = [found for found in _definitions(document) if isinstance(found.get("id"), str)]
    renamed = _unique_ids(document, root_nodes, definitions) if unique_ids else {}
    subgraphs = {str(found["id"]): _graph(found, _raw_nodes(found), str(found["id"]), renamed) for found in definitions}
    return Document(_graph(document, root_nodes, "", renamed), subgraphs)


def class_names(document: Mapping) -> list[str]:
    """The classes of all nodes, those inside subgraphs and group nodes included."""
    extra = document.get("extra")
    groups = extra.get("groupNodes") if isinstance(extra, Mapping) else None
    places = [document, *_definitions(document), *(groups.values() if isinstance(groups, Mapping) else ())]
    inside = {str(found.get("id")) for found in _definitions(document)}
    names = {
        str(node.get("type"))
        for place in places
        if isinstance(place, Mapping) and isinstance(place.get("nodes"), list)
        for node in place["nodes"]
        if isinstance(node, Mapping)
    }
    return sorted(name for name in names - inside if not name.startswith(("workflow>", "workflow/")))


def _definitions(document: Mapping) -> list[Mapping]:
    """The subgraphs of a document, those that older versions nested into each other included."""
    found: list[Mapping] = []
    waiting = [document]
    while waiting:
        definitions = waiting.pop(0).get("definitions")
        listed = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
        new = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
        found += new
        waiting += new
    return found


def _raw_nodes(found: Mapping) -> list[Mapping]:
    nodes = found.get("nodes") or []
    seen: set[str] = set()
    for node in nodes if isinstance(nodes, list) else [None]:
        if (
            not isinstance(node, Mapping)
            or not isinstance(node.get("type"), str)
            or not isinstance(node.get("id"), (int, str))
        ):
            raise WorkflowError("this is no workflow: one of its nodes has no id or no type")
        if str(node["id"]) in seen:
            raise WorkflowError(f"two nodes have the id {node['id']}: the workflow is damaged")
        seen.add(str(node["id"]))
    return nodes


def _unique_ids(document: Mapping, nodes: list[Mapping], definitions: list[Mapping]) -> dict[str, dict[str, str]]:
    """For each subgraph the ids that the canvas gives to nodes whose id is taken elsewhere: old -> new."""
    state = document.get("state")
    last = _number(document.get("last_node_id"))
    last = max(last, _number(state.get("lastNodeId")) if isinstance(state, Mapping) else 0)
    used = {str(node["id"]) for node in nodes if isinstance(node["id"], int)}
    renamed: dict[str, dict[str, str]] = {}
    for definition in definitions:
        changes = renamed.setdefault(str(definition["id"]), {})
        for node in _raw_nodes(definition):
            own = str(node["id"])
            if own in used:
                last += 1
                while str(last) in used:
                    last += 1
                changes[own] = str(last)
                used.add(str(last))
            else:
                used.add(own)
                last = max(last, _number(own))
    return renamed


def _number(value: object) -> int:
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 16 else 0


def _graph(found: Mapping, nodes: list[Mapping], own_id: str, all_renamed: Mapping[str, Mapping[str, str]]) -> Graph:
    renamed = all_renamed.get(own_id, {})
    read = [
        read_node(_with_ids(node, all_renamed.get(node["type"], {})), renamed.get(str(node["id"]), str(node["id"])))
        for node in nodes
    ]
    return Graph(
        str(found.get("name") or ""),
        {node.id: node for node in read},
        dict(_links(found, renamed)),
        _slots(found.get("inputs"), "linkIds"),
        _slots(found.get("outputs"), "linkIds"),
    )


def _with_ids(node: Mapping, renamed: Mapping[str, str]) -> Mapping:
    """An instance of a subgraph whose `proxyWidgets` name the nodes inside by the ids that they have now."""
    properties = node.get("properties")
    proxies = properties.get("proxyWidgets") if isinstance(properties, Mapping) else None
    if not renamed or not isinstance(properties, Mapping) or not isinstance(proxies, list):
        return node
    named = [[renamed.get(str(one[0]), one[0]), *one[1:]] if isinstance(one, list) and one else one for one in proxies]
    return {**node, "properties": {**properties, "proxyWidgets": named}}


def read_node(node: Mapping, own_id: str) -> Node:
    """A node as it was saved, under an id."""
    mode, properties, named = node.get("mode", 0), node.get("properties"), node.get("widgets_values_named")
    return Node(
        own_id,
        node["type"],
        mode if isinstance(mode, int) else 0,
        str(node.get("title") or ""),
        _slots(node.get("inputs"), "links"),
        _slots(node.get("outputs"), "links"),
        node.get("widgets_values"),
        named if isinstance(named, Mapping) else {},
        properties if isinstance(properties, Mapping) else {},
    )


def _slots(found: object, links: str) -> tuple[Slot, ...]:
    slots = [slot for slot in found if isinstance(slot, Mapping)] if isinstance(found, list) else []
    return tuple(
        Slot(
            str(slot.get("name")),
            str(slot.get("type", "*")),
            None if slot.get("link") is None else str(slot["link"]),
            tuple(str(link) for link in slot[links] if link is not None) if isinstance(slot.get(links), list) else (),
            str(slot["widget"].get("name")) if isinstance(slot.get("widget"), Mapping) else None,
            str(slot.get("label") or ""),
        )
        for slot in slots
    )


def _links(document: Mapping, renamed: Mapping[str, str]) -> Iterator[tuple[str, Link]]:
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
            origin, target = str(origin), str(target)
            yield (
                str(number),
                Link(renamed.get(origin, origin), int(slot), renamed.get(target, target), int(target_slot)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WorkflowError(
                f"this is no workflow: the link {str(link)[:80]} is neither [id, from, slot, to, slot, "
                "type] nor an object with these"
            ) from error
