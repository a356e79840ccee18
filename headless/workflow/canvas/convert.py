"""What the canvas saves -> the API form, as the front end's graphToPrompt makes it, subgraphs taken apart.

From ComfyUI_frontend 1.49.6: src/utils/executionUtil.ts (graphToPrompt), scripts/app.ts (loadGraphData),
lib/litegraph/src/subgraph/SubgraphNode.ts (getInnerNodes). Ids are those of the front end: "3:4" is node 4 in the
subgraph that node 3 is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from ..graph import Prompt, Spec, Specs, WorkflowError, spec_of, unknown_nodes
from .browser_only import VIRTUAL, apply_primitives, fed_by_primitive, refuse_everywhere
from .foreign import refuse_foreign
from .graphs import BYPASSED, MUTED, Document, Graph, Node, read_document
from .groups import unpacked
from .kinds import DYNAMIC, NO_SCENE, SCENE
from .promoted import read_outsides
from .result import Converted, Shown
from .sources import Given, Scope, Sources
from .texts import SAVING, dynamic_prompt, replaced
from .versions import GROUPS_AS_SUBGRAPHS, NEWEST, UNIQUE_IDS, FrontEnd, note_on_marks, notes_on
from .widgets import Held, Widgets, inputs_with_options, needs_browser, node_widgets


def to_api(
    document: Mapping, specs: Specs, now: datetime | None = None, front_end: FrontEnd | None = None
) -> tuple[Prompt, list[str]]:
    """The API form, and sentences on what was left out of it or could not be placed.

    `now` is what %date:...% means; None: the time of the call. `front_end` is the version whose ways are taken; None:
    the newest known.

    Raises:
        WorkflowError: no canvas JSON, a damaged one, nodes of classes that `specs` does not know, or a value that
            only a browser has; the sentence says which.
    """
    found = convert(document, specs, now, front_end)
    return found.prompt, found.notes


def convert(
    document: Mapping, specs: Specs, now: datetime | None = None, front_end: FrontEnd | None = None
) -> Converted:
    """As to_api, with what instances of subgraphs show on their outside.

    Raises:
        WorkflowError: as in to_api.
    """
    refuse_foreign(document)
    version = NEWEST if front_end is None else front_end
    plain, groups = unpacked(document, specs, as_subgraphs=version >= GROUPS_AS_SUBGRAPHS)
    found = read_document(plain, unique_ids=version >= UNIQUE_IDS)
    conversion = _Conversion(found, specs, now or datetime.now(), version)
    conversion.notes += notes_on(found, groups, version)
    return conversion.result()


class _Conversion:
    """One workflow on its way: values are those of the definitions, links those of each instance."""

    def __init__(self, document: Document, specs: Specs, now: datetime, front_end: FrontEnd):
        self._document, self._specs, self._now, self._front_end = document, specs, now, front_end
        self._widgets: dict[Node, Widgets] = {}
        self.notes: list[str] = []
        self._shown: dict[str, Shown] = {}
        self._outsides = read_outsides(document, self.widgets)
        for graph in document.graphs():
            apply_primitives(graph, self.widgets, self._with_marks)
        self._sources = Sources(document, self._outsides, specs)

    def result(self) -> Converted:
        """The whole API form."""
        made: Prompt = {}
        unknown: list[str] = []
        left_out: list[tuple[str, bool]] = []
        for scope, node in self._running():
            spec = self._specs(node.kind)
            if spec is None and not self._is_needed(scope.graph, node):
                linked = any(slot.link or slot.links for slot in (*node.inputs, *node.outputs))
                left_out.append((f"node {scope.prefix}{node.label}", linked))
            elif spec is None:
                unknown.append(f"node {scope.prefix}{node.label}")
            else:
                made[scope.prefix + node.id] = {
                    "class_type": node.kind,
                    "inputs": self._inputs(scope, node, spec),
                    "_meta": {"title": node.title or spec.title or node.kind},
                }
        ends = any(spec_of(self._specs, found["class_type"]).output_node for found in made.values())
        if unknown or not ends and any(linked for _, linked in left_out):
            raise unknown_nodes([*unknown, *(name for name, _ in left_out)])
        if not made:
            raise WorkflowError("the workflow has no nodes to run: all are notes, muted or bypassed")
        self.notes += [
            f"{name} has no known class, and no node that runs takes anything from it: left out, with whatever it "
            "would save or show"
            for name, _ in left_out
        ]
        self._drop_dead_links(made)
        return Converted(made, self.notes, self._shown)

    def widgets(self, node: Node) -> Widgets:
        """What the node's widgets hold; nothing where its class is not known."""
        if node not in self._widgets:
            spec = self._specs(node.kind)
            self._widgets[node] = node_widgets(node, spec, self.notes) if spec else {}
        return self._widgets[node]

    def _running(self) -> Iterator[tuple[Scope, Node]]:
        """Every node that runs, with where it stands; instances inside subgraphs run whatever their own mode is."""
        root = Scope(self._document.root)
        waiting: list[tuple[Scope, Iterator[Node]]] = [(root, iter(root.graph.nodes.values()))]
        while waiting:
            scope, nodes = waiting[-1]
            node = next(nodes, None)
            if node is None:
                waiting.pop()
            elif node.kind in self._document.subgraphs:
                if scope is not root or node.mode not in (MUTED, BYPASSED):
                    if node.mode in (MUTED, BYPASSED):
                        self.notes.append(
                            f"node {scope.prefix}{node.label} is a muted or bypassed subgraph inside another one: what "
                            "is in it runs all the same, as from the canvas"
                        )
                    inside = scope.inside(node, self._document.subgraphs[node.kind])
                    refuse_everywhere(inside.graph.nodes.values())
                    self._shown[scope.prefix + node.id] = self._outer(node, inside.graph)
                    waiting.append((inside, iter(inside.graph.nodes.values())))
            elif node.mode not in (MUTED, BYPASSED) and node.kind not in VIRTUAL:
                if scope is root:
                    refuse_everywhere([node])
                yield scope, node

    def _inputs(self, scope: Scope, node: Node, spec: Spec) -> dict[str, object]:
        reason = needs_browser(node, spec)
        if reason is not None:
            raise WorkflowError(f"node {scope.prefix}{node.label}: {reason}; give it another node, or run it there")
        widgets = self.widgets(node)
        inputs = {name: self._sent(node, name, held) for name, held in widgets.items()}
        known = inputs_with_options(spec, {name: held.value for name, held in widgets.items()})
        dynamic = [name for name, found in known.items() if found.kind == DYNAMIC]
        for place, slot in enumerate(node.inputs):
            gone = slot.name not in known and any(slot.name.startswith(f"{name}.") for name in dynamic)
            if slot.link is None or gone and not self._grows(slot.name, known):
                continue
            source = self._sources.given(scope, node, slot.name) or self._sources.of(scope, node, place)
            if isinstance(source, Given):
                inputs[slot.name] = self._given(source, scope.prefix + node.id, slot.name, inputs)
            elif source is not None:
                inputs[slot.name] = list(source)
            elif not fed_by_primitive(slot, scope.graph):
                self.notes.append(
                    f"node {scope.prefix}{node.label}: the link of its input {slot.name!r} leads to nothing that runs "
                    "(muted, bypassed, or a primitive outside of the subgraph)"
                    + (", so that its own value is sent" if inputs.get(slot.name) is not None else "")
                )
        for name in widgets:
            given = self._sources.given(scope, node, name)
            if given is not None:
                inputs[name] = self._given(given, scope.prefix + node.id, name, inputs)
        return {name: value for name, value in inputs.items() if value is not None}

    def _given(self, given: Given, node: str, name: str, inputs: Mapping[str, object]) -> object:
        """The value that an instance shows; its own widget's where the instance holds none (null)."""
        inside = self._shown[given.shown_by].inputs.setdefault(given.name, [])
        if (node, name) not in inside:
            inside.append((node, name))
        if given.value is not None:
            return _wrapped(given.value)
        self.notes.append(
            f"node {given.shown_by} shows no value for {given.name!r} (null): that of node {node} inside was taken"
        )
        return inputs.get(name)

    def _outer(self, node: Node, inside: Graph) -> Shown:
        labels = {slot.label: slot.name for slot in (*inside.inputs, *node.inputs) if slot.label}
        return Shown(node.title or inside.name, {}, labels)

    def _grows(self, name: str, known: Mapping) -> bool:
        """Whether an input is one of those that an autogrow input has so far."""
        return any(name.startswith(f"{one}.") for one, found in known.items() if found.kind == "COMFY_AUTOGROW_V3")

    def _sent(self, node: Node, name: str, held: Held) -> object:
        value = held.value
        if isinstance(value, str) and held.declared.options.get("dynamicPrompts"):
            value = self._chosen(node, value)
        if isinstance(value, str) and name == "filename_prefix" and node.kind in SAVING:
            replaced_value = self._with_marks(value)
            self.notes += note_on_marks(node, value, replaced_value, self._front_end)
            value = replaced_value
        if held.declared.kind == SCENE:
            return self._scene(node, name)
        return _wrapped(value)

    def _scene(self, node: Node, name: str) -> dict[str, object]:
        """What a 3-D view sends, without what only a browser knows: its camera and its pictures."""
        drawn = name == "image"  # where the host opens the pictures, whether anything uses them or not
        self.notes.append(
            f"node {node.label}: its 3-D view is drawn by browsers only; nothing uses its pictures, and empty ones go"
            if drawn
            else f"node {node.label}: the camera of its 3-D view is the browser's and is not set"
        )
        pictures = dict.fromkeys(("image", "mask", "normal", "lineart"), NO_SCENE if drawn else "")
        return {**pictures, "camera_info": None, "recording": "", "model_3d_info": []}

    def _chosen(self, node: Node, text: str) -> str:
        try:
            return dynamic_prompt(text)
        except WorkflowError as error:
            raise WorkflowError(f"node {node.label}: {error}") from error

    def _with_marks(self, text: str) -> str:
        return replaced(text, self._widget_value, self._now)

    def _widget_value(self, name: str, widget: str) -> object | None:
        """A widget of the first node that is called so, in the properties or by its title."""
        nodes = [node for graph in self._document.graphs() for node in graph.nodes.values()]
        called = [node for node in nodes if self._search_name(node) == name]
        called = called or [node for node in nodes if self._title(node) == name]
        held = self.widgets(called[0]).get(widget) if called else None
        return None if held is None else held.value

    def _search_name(self, node: Node) -> object:
        own = node.properties.get("Node name for S&R")
        return node.kind if own is None and node.kind not in SAVING and self._specs(node.kind) else own

    def _title(self, node: Node) -> str:
        spec = self._specs(node.kind)
        return node.title or (spec.title if spec else "") or node.kind

    def _is_needed(self, graph: Graph, node: Node) -> bool:
        """Whether a node that runs takes something from this one, through others that are unknown as well."""
        seen, waiting = {node.id}, [node.id]
        while waiting:
            origin = waiting.pop()
            for link in graph.links.values():
                if link.origin != origin or link.target in seen:
                    continue
                target = graph.nodes.get(link.target)
                if target is None or self._specs(target.kind) is not None and target.mode not in (MUTED, BYPASSED):
                    return True
                seen.add(link.target)
                if target.kind in self._document.subgraphs:
                    return True
                waiting.append(link.target)
        return False

    def _drop_dead_links(self, made: Prompt) -> None:
        """Inputs whose link ends at a node that was left out are left out, too."""
        for node, found in made.items():
            dead = [
                name
                for name, value in found["inputs"].items()
                if isinstance(value, list) and len(value) == 2 and value[0] not in made
            ]
            for name in dead:
                del found["inputs"][name]
                self.notes.append(f"node {node} {found['class_type']}: its input {name!r} is fed by nothing that runs")


def _wrapped(value: object) -> object:
    """A list as the front end sends it, so that it is no link."""
    return {"__value__": value} if isinstance(value, list) else value
