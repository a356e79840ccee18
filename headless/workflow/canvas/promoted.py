"""Widgets that a subgraph shows on its outside: the value each instance gives to what is inside.

From ComfyUI_frontend 1.49.6: lib/litegraph/src/subgraph/SubgraphNode.ts, core/graph/subgraph/promotionUtils.ts,
core/graph/subgraph/migration/proxyWidgetMigration.ts (`proxyWidgets`, as front ends before 1.47 or so saved them).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .browser_only import PRIMITIVE
from .graphs import Document, Graph, Node
from .widgets import Held, Widgets

_PREFIX = re.compile(r"^\s*(\d+)\s*:\s*(.+)$")
_OUTSIDE = "-1"  # the node that a proxy names when it means an input of the subgraph


@dataclass
class Outside:
    """What an instance of a subgraph gives: by the name of its input, and to widgets inside that no input leads to.

    A widget is (node inside, its name there); `shown` is the name under which the instance itself shows one of the
    latter, `deepest` the node and the widget that a shown name stands for, through all instances in between.
    """

    inputs: dict[str, Held] = field(default_factory=dict)
    inner: dict[tuple[str, str], object] = field(default_factory=dict)
    shown: dict[tuple[str, str], str] = field(default_factory=dict)
    deepest: dict[str, tuple[str, str]] = field(default_factory=dict)

    def name_of(self, widget: str, node: str | None) -> str | None:
        """The shown name that another instance's proxy means: by the widget deep inside, of that node if it says so."""
        for name, (deep_node, deep_widget) in self.deepest.items():
            if (deep_node, deep_widget) == (node, widget) or node is None and widget in (name, deep_widget):
                return name
        return widget if widget in self.deepest else None

    def show(self, place: tuple[str, str], deepest: tuple[str, str]) -> None:
        """Show a widget that no input leads to, under a name of its own."""
        if place not in self.shown:
            name, number = place[1], 0
            while name in self.deepest:
                number += 1
                name = f"{place[1]}_{number}"
            self.shown[place], self.deepest[name] = name, deepest


def read_outsides(document: Document, widgets_of: Callable[[Node], Widgets]) -> dict[Node, Outside]:
    """What every instance of a subgraph gives to its inside; inner instances come first."""
    found: dict[Node, Outside] = {}
    for graph in document.graphs():
        for node in graph.nodes.values():
            if node.kind in document.subgraphs:
                found[node] = _outside(node, document.subgraphs[node.kind], widgets_of, found)
    return found


def _outside(node: Node, inside: Graph, widgets_of: Callable[[Node], Widgets], found: dict[Node, Outside]) -> Outside:
    outside = Outside()
    sources: dict[tuple[str, str], str] = {}
    for slot in inside.inputs:
        shown = _shown(slot.links, inside, widgets_of, found)
        if shown is not None:
            source, held = shown
            outside.inputs[slot.name] = Held(held.value, held.declared)
            outside.deepest[slot.name] = _deepest(*source, inside, found)
            sources.setdefault(source, slot.name)
    saved = node.values if isinstance(node.values, list) else []
    for name, value in zip(outside.inputs, saved):
        outside.inputs[name].value = value
    for name, value in _set_aside(node).items():
        if name in outside.inputs:
            outside.inputs[name].value = value
    instances = {one.id: found[one] for one in inside.nodes.values() if one in found}
    _read_proxies(node, inside, outside, sources, saved, instances)
    return outside


def _deepest(node: str, name: str, inside: Graph, found: dict[Node, Outside]) -> tuple[str, str]:
    """The node and the widget that a widget of a node inside stands for."""
    instance = found.get(inside.nodes[node])
    return (node, name) if instance is None else instance.deepest.get(name, (node, name))


def _shown(
    links: tuple[str, ...], inside: Graph, widgets_of: Callable[[Node], Widgets], found: dict[Node, Outside]
) -> tuple[tuple[str, str], Held] | None:
    """The first widget that a subgraph's input leads to: (node, widget), and what it holds."""
    for number in links:
        link = inside.links.get(number)
        target = inside.nodes.get(link.target) if link else None
        slot = next((slot for slot in target.inputs if slot.link == number), None) if target else None
        if target is None or slot is None:
            continue
        held = found[target].inputs if target in found else widgets_of(target)
        if slot.name in held:
            return (target.id, slot.name), held[slot.name]
    return None


def _set_aside(node: Node) -> dict[str, object]:
    """Values by input name that an earlier front end could not place and kept as a property."""
    entries = node.properties.get("proxyWidgetErrorQuarantine")
    values: dict[str, object] = {}
    for entry in entries if isinstance(entries, list) else ():
        original = entry.get("originalEntry") if isinstance(entry, dict) else None
        if isinstance(original, list) and len(original) > 1 and str(original[0]) == _OUTSIDE and "hostValue" in entry:
            values.setdefault(str(original[1]), entry["hostValue"])
    return values


def _read_proxies(
    node: Node,
    inside: Graph,
    outside: Outside,
    sources: dict[tuple[str, str], str],
    saved: list,
    instances: dict[str, Outside],
) -> None:
    """The values that stand beside `proxyWidgets`: a list of [node inside, widget, perhaps the node deep inside]."""
    proxies = node.properties.get("proxyWidgets")
    primitives: dict[str, object] = {}
    for place, proxy in enumerate(proxies if isinstance(proxies, list) else ()):
        if not isinstance(proxy, list) or len(proxy) < 2:
            continue
        source, name, deep = str(proxy[0]), str(proxy[1]), str(proxy[2]) if len(proxy) > 2 else None
        if (source, name) not in sources and source in inside.nodes:
            name, prefix = _plain(name)
            deep = prefix or deep
        if (source, name) not in sources and source in instances:
            name = instances[source].name_of(name, deep) or instances[source].name_of(name, None) or name
        value = saved[place] if place < len(saved) else None
        if (source, name) in sources:
            if value is not None:
                outside.inputs[sources[source, name]].value = value
        elif source == _OUTSIDE:
            if value is not None and name in outside.inputs:
                outside.inputs[name].value = value
        elif source in inside.nodes and inside.nodes[source].kind == PRIMITIVE:
            if value is not None:
                primitives.setdefault(source, value)
        elif source in inside.nodes:
            instance = instances.get(source)
            outside.show((source, name), instance.deepest.get(name, (source, name)) if instance else (source, name))
            if value is not None:
                outside.inner[source, name] = value
    for source, value in primitives.items():
        _give_for_primitive(inside, source, value, outside)


def _give_for_primitive(inside: Graph, primitive: str, value: object, outside: Outside) -> None:
    """A shown primitive's value goes to the widgets that the primitive is linked to."""
    for target in inside.nodes.values():
        for slot in target.inputs:
            link = inside.links.get(slot.link) if slot.link is not None else None
            if link is not None and link.origin == primitive:
                outside.inner[target.id, slot.name] = value


def _plain(name: str) -> tuple[str, str | None]:
    """The widget's name without the ids of nodes that old versions put before it, and the last of these."""
    node = None
    while found := _PREFIX.match(name):
        node, name = found[1], found[2]
    return name, node
