"""What really feeds an input: a walk through reroutes, bypassed nodes and the boundaries of subgraphs.

From ComfyUI_frontend 1.49.6: lib/litegraph/src/subgraph/ExecutableNodeDTO.ts (resolveInput, resolveOutput).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..graph import Spec, WorkflowError
from .browser_only import VIRTUAL, passes_on, setter_of
from .graphs import BOUNDARY_IN, BYPASSED, MUTED, Document, Graph, Node, Slot
from .kinds import AUTOGROW, MATCH, widget_kind
from .promoted import Outside
from .widgets import is_value_for


@dataclass(frozen=True)
class Given:
    """A value that comes from outside a subgraph, instead of a link: from a widget that an instance shows."""

    value: object
    shown_by: str  # the id of the instance
    name: str


Source = tuple[str, int] | Given | None  # an output that runs, a value, or nothing


@dataclass(frozen=True, eq=False)
class Scope:
    """A graph as it stands in one place: the root, or inside one instance of a subgraph (`host`, in `parent`)."""

    graph: Graph
    prefix: str = ""
    host: Node | None = None
    parent: Scope | None = None
    _inner: dict[str, Scope] = field(default_factory=dict)

    def inside(self, host: Node, graph: Graph) -> Scope:
        """The scope inside an instance of a subgraph.

        Raises:
            WorkflowError: the subgraph contains itself.
        """
        if host.id not in self._inner:
            above: Scope | None = self
            while above is not None:
                if above.graph is graph:
                    raise WorkflowError(f"the subgraph of node {host.label} contains itself; remove it from its inside")
                above = above.parent
            self._inner[host.id] = Scope(graph, f"{self.prefix}{host.id}:", host, self)
        return self._inner[host.id]


_Place = tuple[bool, Scope, Node, int, str | None]  # at an input (or an output), its slot, the type that is wanted


class Sources:
    """Finds sources; what was found on the way is kept, so that long chains are walked once."""

    def __init__(self, document: Document, outsides: Mapping[Node, Outside], specs: Callable[[str], Spec | None]):
        self._document, self._outsides, self._specs = document, outsides, specs
        self._known: dict[_Place, Source] = {}

    def of(self, scope: Scope, node: Node, slot: int) -> Source:
        """What feeds the input.

        Raises:
            WorkflowError: the links go round in a circle, or the workflow is damaged.
        """
        place: _Place = (True, scope, node, slot, None)
        trail: dict[_Place, None] = {}
        while place not in self._known:
            if place in trail:
                raise WorkflowError(
                    f"the links at node {scope.prefix}{node.label} go round in a circle (reroutes, bypassed nodes or "
                    "subgraphs that feed each other); remove one of them"
                )
            trail[place] = None
            at_input, at_scope, at_node, at_slot, kind = place
            step = self._up_from_input if at_input else self._up_from_output
            following = step(at_scope, at_node, at_slot, kind)
            if isinstance(following, tuple) and len(following) == 5:
                place = following
            else:
                self._known[place] = following
        found = self._known[place]
        self._known.update(dict.fromkeys(trail, found))
        return found

    def _up_from_input(self, scope: Scope, node: Node, slot: int, kind: str | None) -> _Place | Source:
        if not 0 <= slot < len(node.inputs) or node.inputs[slot].link is None:
            return None
        found = node.inputs[slot]
        link = scope.graph.links.get(found.link or "")
        if link is not None and link.origin == BOUNDARY_IN and scope.parent is not None:
            return self._up_and_out(scope, link.origin_slot)
        if found.link is None or link is None or link.origin not in scope.graph.nodes:
            raise WorkflowError(
                f"node {scope.prefix}{node.label}: its input {found.name!r} has the link {found.link}, which leads "
                "nowhere: the workflow is damaged"
            )
        return False, scope, scope.graph.nodes[link.origin], link.origin_slot, kind or self.input_kind(node, found)

    def _up_and_out(self, scope: Scope, slot: int) -> _Place | Source:
        """From the boundary of a subgraph to the input of its instance that has the same name."""
        parent, host = scope.parent, scope.host
        if parent is None or host is None:
            return None  # the root has no outside
        if not 0 <= slot < len(scope.graph.inputs):
            raise WorkflowError(f"node {host.label}: its subgraph has no input {slot}: the workflow is damaged")
        name = scope.graph.inputs[slot].name
        given = self.given(parent, host, name)
        if given is not None:
            return given
        outer = next((place for place, found in enumerate(host.inputs) if found.name == name), None)
        if outer is not None and host.inputs[outer].link is not None:
            return True, parent, host, outer, None
        held = self._outsides[host].inputs.get(name)
        return None if held is None else Given(held.value, parent.prefix + host.id, name)

    def given(self, scope: Scope, node: Node, name: str) -> Given | None:
        """What the outermost instance around gives to a widget inside it that no input of the subgraph leads to."""
        found = None
        inside, shown = node.id, name
        while (host := scope.host) is not None and (parent := scope.parent) is not None:
            outside = self._outsides[host]
            outer = outside.shown.get((inside, shown))
            if (inside, shown) in outside.inner:
                found = Given(outside.inner[inside, shown], parent.prefix + host.id, outer or shown)
            if outer is None:
                break
            scope, inside, shown = parent, host.id, outer
        return found

    def _up_from_output(self, scope: Scope, node: Node, slot: int, kind: str | None) -> _Place | Source:
        if node.mode == MUTED:
            return None
        if node.mode == BYPASSED:
            passed = self._bypass_slot(node, slot, kind or "*")
            return None if passed is None else (True, scope, node, passed, None)
        if node.kind in self._document.subgraphs:
            return self._down_into(scope, node, slot, kind)
        if node.kind in VIRTUAL:
            setter = setter_of(node, scope.graph)
            if setter is not None:
                return True, scope, setter, 0, kind
            return (True, scope, node, slot, kind) if passes_on(node) else None
        return scope.prefix + node.id, slot

    def _down_into(self, scope: Scope, node: Node, slot: int, kind: str | None) -> _Place | Source:
        inside = scope.inside(node, self._document.subgraphs[node.kind])
        outputs = inside.graph.outputs
        if not 0 <= slot < len(outputs):
            raise WorkflowError(f"node {scope.prefix}{node.label}: its subgraph has no output {slot}: it is damaged")
        link = next(
            (inside.graph.links[number] for number in outputs[slot].links if number in inside.graph.links), None
        )
        if link is None:
            return None
        if link.origin == BOUNDARY_IN:
            return self._up_and_out(inside, link.origin_slot)
        if link.origin not in inside.graph.nodes:
            raise WorkflowError(
                f"node {scope.prefix}{node.label}: the output {outputs[slot].name!r} of its subgraph has a link that "
                "leads nowhere: the workflow is damaged"
            )
        return False, inside, inside.graph.nodes[link.origin], link.origin_slot, kind

    def input_kind(self, node: Node, slot: Slot) -> str:
        """The type of an input: the class's where it is fixed, else what was saved."""
        spec = self._specs(node.kind)
        declared = spec.inputs.get(slot.name) if spec else None
        return slot.kind if declared is None or declared.kind.startswith("COMFY_") else declared.kind

    def _output_kind(self, node: Node, slot: int) -> str:
        spec = self._specs(node.kind)
        if spec and slot < len(spec.outputs) and spec.outputs[slot] != MATCH:
            return spec.outputs[slot]
        return node.outputs[slot].kind if 0 <= slot < len(node.outputs) else "*"

    def _bypass_slot(self, node: Node, slot: int, kind: str) -> int | None:
        """The input that a bypassed node hands on for this output: same place, else same type, else a fitting type."""
        inputs = self._inputs(node)
        kinds = [self.input_kind(node, found) for found in inputs]
        own = self._output_kind(node, slot)
        place: int | None = None
        if kind in ("*", ""):
            place = slot if len(kinds) > slot else 0
        elif slot < len(kinds) and is_value_for(kinds[slot], own) and is_value_for(kinds[slot], kind):
            place = slot
        elif kind in kinds:
            place = kinds.index(kind)
        else:
            fitting = (is_value_for(found, own) and is_value_for(found, kind) for found in kinds)
            place = next((number for number, fits in enumerate(fitting) if fits), None)
        if place is None or place >= len(inputs) or inputs[place] not in node.inputs:
            return None
        return node.inputs.index(inputs[place])

    def _inputs(self, node: Node) -> list[Slot]:
        """The inputs in the canvas's order: sockets of the class, its widgets, then what else was saved."""
        spec = self._specs(node.kind)
        if spec is None:
            return list(node.inputs)
        sockets = [name for name, found in spec.inputs.items() if widget_kind(found) is None]
        names = [*sockets, *(name for name in spec.inputs if name not in sockets)]
        saved = {found.name: found for found in node.inputs}
        declared = [
            saved.get(name) or Slot(name, spec.inputs[name].kind)
            for name in names
            if spec.inputs[name].kind != AUTOGROW and not spec.inputs[name].options.get("socketless")
        ]
        return [*declared, *(found for found in node.inputs if found.name not in names)]
