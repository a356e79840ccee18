"""Old group nodes (extra.groupNodes) taken apart: their nodes take their place, values and links go to them.

From ComfyUI_frontend 1.49.6: extensions/core/groupNode.ts. Ids are those of the front end, which makes a subgraph of
each: "102:100"; older ones number the members: "3:0". Unlike there, choices keep their places among the values, and a
muted or bypassed group stays so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..graph import Input, Specs, WorkflowError, unknown_nodes
from .browser_only import PRIMITIVE, VIRTUAL
from .graphs import BYPASSED, MUTED, read_node
from .kinds import control_places, widget_kind
from .widgets import node_widgets

_SEPARATORS = ("workflow>", "workflow/")
_MOST = 5_000  # nodes that group nodes may unfold into


@dataclass
class _Face:
    """What a group node shows: names of inputs -> (node inside, its input), outputs and values in their order."""

    inputs: dict[str, tuple[int, str]] = field(default_factory=dict)
    outputs: list[tuple[int, int]] = field(default_factory=list)
    values: list[tuple[int, str] | None] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)

    def name(self, member: Mapping, name: str, *, titled: bool) -> str:
        """The name that an input of a member gets on the group, made unique with the member's title."""
        shown, called = name, str(member.get("title") or member.get("type"))
        if titled or shown in self._seen:
            shown = f"{called} {name}"
            if shown in self._seen:
                shown = f"{called} {self._seen[shown]} {name}"
        key = f"{called} {name}" if titled or name in self._seen else name
        self._seen[key] = self._seen.get(key, 1) + 1
        return shown


def unpacked(document: Mapping, specs: Specs, *, as_subgraphs: bool = True) -> tuple[Mapping, list[str]]:
    """The document without group nodes of its root, and the labels of those that there were.

    Raises:
        WorkflowError: a group that the document does not define, that contains itself or unknown classes.
    """
    extra = document.get("extra")
    groups = extra.get("groupNodes") if isinstance(extra, Mapping) else None
    groups = groups if isinstance(groups, Mapping) else {}
    _refuse_circles(groups)
    labels: list[str] = []
    while True:
        nodes = document.get("nodes") or []
        found = next((node for node in nodes if _group_name(node) is not None), None)
        if found is None:
            return document, labels
        if len(nodes) > _MOST:
            raise WorkflowError(f"the group nodes unfold into more than {_MOST} nodes; take them apart in the canvas")
        group = groups.get(_group_name(found))
        if not isinstance(group, Mapping) or not isinstance(group.get("nodes"), list):
            raise WorkflowError(f"node {found.get('id')} is a group {_group_name(found)!r}, which the workflow lacks")
        labels.append(f"{found.get('id')} {found['type']}")
        document = _with_members(document, found, group, specs, as_subgraphs)


def _refuse_circles(groups: Mapping) -> None:
    """A group may contain others, but not itself."""
    inside = {
        name: {_group_name(member) for member in group.get("nodes") or ()} - {None}
        for name, group in groups.items()
        if isinstance(group, Mapping)
    }
    for name, names in inside.items():
        reached, waiting = set(names), list(names)
        while waiting:
            new = inside.get(waiting.pop(), set()) - reached
            reached |= new
            waiting += new
        if name in reached:
            raise WorkflowError(f"the group node {name!r} contains itself; the workflow is damaged")


def _group_name(node: object) -> str | None:
    kind = node.get("type") if isinstance(node, Mapping) else None
    if isinstance(kind, str) and kind.startswith(_SEPARATORS):
        return kind[len(_SEPARATORS[0]) :]
    return None


def _with_members(document: Mapping, node: Mapping, group: Mapping, specs: Specs, as_subgraphs: bool) -> Mapping:
    members = [member for member in group["nodes"] if isinstance(member, Mapping)]
    face = _face(members, group, specs)
    last = _last_id(document)
    outer, first = (str(last + len(members) + 1), last + 1) if as_subgraphs else (str(node.get("id")), 0)
    ids = [f"{outer}:{first + place}" for place in range(len(members))]
    made = [_member(member, ids[place], node, specs) for place, member in enumerate(members)]
    _give_values(made, node, face)
    links = [dict(link) for link in _link_objects(document.get("links"))]
    number = max((_whole(link["id"]) for link in links), default=0)
    for link in _inner_links(group):
        number += 1
        origin, slot, target, target_slot = link
        if max(origin, target) < len(made):
            links.append(_link(number, ids[origin], slot, ids[target], target_slot))
            _plug(made[target], target_slot, number)
    _rewire(node, face, made, links)
    others = [other for other in document["nodes"] if other is not node]
    extended = {"nodes": [*others, *made], "links": links, "last_node_id": last + len(members) + 1}
    return {**document, **extended}


def _member(member: Mapping, own_id: str, group: Mapping, specs: Specs) -> dict:
    """A member as a node of its own, its values by name."""
    kind = str(member.get("type"))
    mode = group.get("mode") if group.get("mode") in (MUTED, BYPASSED) else member.get("mode", 0)
    made = {**member, "id": own_id, "type": kind, "mode": mode}
    made["inputs"] = [{**slot, "link": None} for slot in member.get("inputs") or () if isinstance(slot, Mapping)]
    spec = specs(kind)
    if spec is None and kind not in VIRTUAL and _group_name(member) is None:
        raise unknown_nodes([f"node {own_id} {kind}"])
    if spec is not None:
        held = node_widgets(read_node(made, own_id), spec, [])
        made["widgets_values"] = {name: one.value for name, one in held.items()}
    return made


def _face(members: list[Mapping], group: Mapping, specs: Specs) -> _Face:
    face = _Face()
    last: list[tuple[int, Mapping, str, Input]] = []
    into = {(target, slot) for _, _, target, slot in _inner_links(group)}
    for place, member in enumerate(members):
        inputs, outputs = _declared(place, member, group, specs)
        slots = []
        converted = {
            str(slot.get("name")): number
            for number, slot in enumerate(member.get("inputs") or ())
            if isinstance(slot, Mapping) and isinstance(slot.get("widget"), Mapping)
        }
        for name, declared in inputs.items():
            if widget_kind(declared) is None:
                slots.append(name)
            elif name in converted:
                last += [] if (place, converted[name]) in into else [(place, member, name, declared)]
            else:
                _add_widget(face, place, member, name, declared)
        for number, name in enumerate(slots):
            if (place, number) not in into:
                shown = face.name(member, name, titled=False)
                if _custom(group, place, "input", name).get("visible") is not False:
                    face.inputs[str(_custom(group, place, "input", name).get("name") or shown)] = (place, name)
        _add_outputs(face, place, outputs, group)
    for place, member, name, declared in last:
        _add_widget(face, place, member, name, declared)
    return face


def _add_widget(face: _Face, place: int, member: Mapping, name: str, declared: Input) -> None:
    primitive = member.get("type") == PRIMITIVE
    shown = face.name(member, name, titled=primitive and bool(member.get("title")))
    face.inputs[shown] = (place, name)
    own = widget_kind(declared)
    places = {"INT": 1, "FLOAT": 1, "COMBO": 2}.get(declared.kind, 0) if primitive else control_places(name, declared)
    face.values += [(place, name), *[None] * (places + (own.after if own else 0))]


def _add_outputs(face: _Face, place: int, outputs: int, group: Mapping) -> None:
    """Outputs are shown that no member takes, or that are marked as taken from outside as well."""
    taken = {slot for origin, slot, _, _ in _inner_links(group) if origin == place}
    outside = {
        entry[1]
        for entry in group.get("external") or ()
        if isinstance(entry, list) and entry[:1] == [place] and entry[1:]
    }
    for slot in range(outputs):
        visible = _custom(group, place, "output", str(slot)).get("visible")
        if (slot not in taken or slot in outside) if visible is None else visible:
            face.outputs.append((place, slot))


def _declared(place: int, member: Mapping, group: Mapping, specs: Specs) -> tuple[dict[str, Input], int]:
    """The inputs of a member and how many outputs it has; primitives and reroutes get them from their links."""
    kind = str(member.get("type"))
    links = list(_inner_links(group))
    leaving = [link for link in links if link[0] == place]
    if kind == PRIMITIVE:
        own = (member.get("outputs") or [{}])[0]
        return ({"value": Input(str(own.get("type", "*")), None, {}, True)}, 1) if leaving else ({}, 0)
    if kind == "Reroute":
        arriving = [link for link in links if link[2] == place]
        outside = any(isinstance(entry, list) and entry[:1] == [place] for entry in group.get("external") or ())
        if arriving and leaving and not outside:
            return {}, 0
        own = str((member.get("outputs") or [{}])[0].get("type", "*"))
        return {own: Input(own, None, {"forceInput": True}, True)}, 1
    spec = specs(kind)
    return (dict(spec.inputs), len(spec.outputs)) if spec else ({}, 0)


def _give_values(made: list[dict], node: Mapping, face: _Face) -> None:
    values = node.get("widgets_values")
    for target, value in zip(face.values, values if isinstance(values, list) else ()):
        if target is None or value is None:
            continue
        member, name = made[target[0]], target[1]
        if member["type"] == PRIMITIVE:
            member["widgets_values"] = [value]
        else:
            member["widgets_values"][name] = value


def _rewire(node: Mapping, face: _Face, made: list[dict], links: list[dict]) -> None:
    """Links of the group become links of its members."""
    own = str(node["id"])
    by_number = {str(link["id"]): link for link in links}
    plain = [slot for slot in node.get("inputs") or () if isinstance(slot, Mapping)]
    sockets = [target for target in face.inputs.values() if target not in [one for one in face.values if one]]
    free = [slot for slot in plain if not isinstance(slot.get("widget"), Mapping)]
    for slot in plain:
        link = by_number.get(str(slot.get("link")))
        target = face.inputs.get(str(slot.get("name")))
        if target is None and slot in free and free.index(slot) < len(sockets):
            target = sockets[free.index(slot)]
        if link is None or target is None:
            continue
        member = made[target[0]]
        link["target_id"], link["target_slot"] = member["id"], _slot_of(member, target[1])
        _plug(member, link["target_slot"], link["id"])
    for link in links:
        if str(link["origin_id"]) == own and 0 <= _whole(link["origin_slot"]) < len(face.outputs):
            place, number = face.outputs[_whole(link["origin_slot"])]
            link["origin_id"], link["origin_slot"] = made[place]["id"], number


def _slot_of(member: dict, name: str) -> int:
    """The place of an input by its name; a reroute has one, and a widget gets one when it is linked."""
    if member["type"] == "Reroute":
        return 0
    for place, slot in enumerate(member["inputs"]):
        if slot.get("name") == name:
            return place
    member["inputs"].append({"name": name, "type": "*", "link": None, "widget": {"name": name}})
    return len(member["inputs"]) - 1


def _plug(member: dict, slot: int, number: object) -> None:
    if 0 <= slot < len(member["inputs"]):
        member["inputs"][slot]["link"] = number


def _inner_links(group: Mapping) -> Iterator[tuple[int, int, int, int]]:
    for link in group.get("links") or ():
        if isinstance(link, list) and len(link) > 3 and all(type(part) is int for part in link[:4]):
            yield tuple(link[:4])


def _custom(group: Mapping, place: int, side: str, name: str) -> Mapping:
    """What the user set for one input or output of a member: its name, whether it is shown."""
    config = group.get("config")
    found: object = config.get(str(place)) if isinstance(config, Mapping) else None
    for key in (side, name):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _link_objects(found: object) -> Iterator[Mapping]:
    listed = list(found.values()) if isinstance(found, Mapping) else found
    for link in listed if isinstance(listed, list) else ():
        if isinstance(link, Mapping):
            yield link
        elif isinstance(link, list) and len(link) > 4:
            yield _link(*link[:5])


def _link(number: object, origin: object, slot: object, target: object, target_slot: object) -> dict:
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    return dict(zip(keys, (number, origin, slot, target, target_slot)))


def _last_id(document: Mapping) -> int:
    ids = [_whole(node.get("id")) for node in document["nodes"] if isinstance(node, Mapping)]
    return max([_whole(document.get("last_node_id")), *ids])


def _whole(value: object) -> int:
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 16 else 0
