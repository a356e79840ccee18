"""The values a node keeps on the canvas: `widgets_values`, by position, read in the order of the class's inputs.

From ComfyUI_frontend 1.49.6: scripts/widgets.ts (the slot of control_after_generate), dynamicWidgets.ts (an option of
a dynamic combo brings inputs that follow it), litegraphUtil.ts (migrateWidgetsValues), LGraphNode.ts (configure).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..graph import Input, Spec, WorkflowError, declared_inputs
from .graphs import Node
from .kinds import (
    AUTOGROW,
    CAMERA,
    DYNAMIC,
    SCENE,
    control_places,
    default_of,
    dynamic_options,
    grown_inputs,
    has_upload_button,
    widget_kind,
)

_CONTROL = {"fixed", "increment", "decrement", "randomize"}
_NUMBERS = ("INT", "FLOAT", "BOOLEAN")


@dataclass
class Held:
    """The value that a widget of a node holds, and what its input is."""

    value: object
    declared: Input


Widgets = dict[str, Held]


def node_widgets(node: Node, spec: Spec, notes: list[str]) -> Widgets:
    """Input name -> what its widget holds; defaults where the canvas kept nothing.

    Raises:
        WorkflowError: damaged values, or values of another version of the class.
    """
    saved = node.values
    if isinstance(saved, Mapping):
        return _by_name(spec.inputs, saved)
    if saved is not None and not isinstance(saved, list):
        raise WorkflowError(
            f"node {node.label}: its widgets_values are neither a list nor a table: the workflow is damaged"
        )
    if saved is None and node.named:
        return _by_name(spec.inputs, node.named)
    if node.kind == "CustomCombo":
        return _own_choices(saved or [], spec)
    values = _without_sockets(saved or [], spec)
    found, used = _by_position(values, spec)
    shifted = _misplaced(found)
    if shifted is not None and node.named and _misplaced(by_name := _by_name(spec.inputs, node.named)) is None:
        notes.append(
            f"node {node.label}: its saved values do not fit its inputs by their places (another version of this class "
            "saved them); they were taken by their names"
        )
        return by_name
    if shifted is not None:
        sentence = f"node {node.label}: its saved values do not fit its inputs ({shifted!r} would get "
        sentence += f"{found[shifted].value!r}): it was saved with another version of this class"
        option = _unknown_option(found)
        if option is not None:
            raise WorkflowError(
                f"{sentence}, one whose {option!r} has {found[option].value!r}; update the pack that it is from, or "
                "ComfyUI"
            )
        if found[shifted].declared.kind == "BOOLEAN" or _is_shifted(values, found):  # the host takes any text for true
            raise WorkflowError(f"{sentence}; open and save it in the canvas again")
        notes.append(f"{sentence}; look at all of them, and set this one, such as --set {node.id}.{shifted}=1")
    if len(values) > used + has_upload_button(spec.inputs):
        notes.append(
            f"node {node.label}: the workflow keeps {len(values)} values for it and the class knows {used}; the "
            "last ones were left out, as the canvas does"
        )
    return found


def is_value_for(given: str, wanted: str) -> bool:
    """Whether the canvas lets an output of one type into an input of another ("A,B" is either; "*" is any)."""
    if given in ("", "*", "0") or wanted in ("", "*", "0") or given == wanted:
        return True
    one, other = ({kind.strip().lower() for kind in kinds.split(",")} for kinds in (given, wanted))
    return bool(one & other)


def _by_position(saved: list, spec: Spec) -> tuple[Widgets, int]:
    """The widgets, and how many of the saved places are theirs."""
    found: Widgets = {}
    waiting = list(spec.inputs.items())[::-1]
    place = 0
    while waiting:
        name, declared = waiting.pop()
        kind = widget_kind(declared)
        if kind is None:
            continue
        if declared.kind == SCENE and "model_file" in found:
            place += sum(isinstance(value, str) for value in saved[place : place + 3] if value in _SCENE_BUTTONS)
        value = saved[place] if kind.kept and place < len(saved) else None
        place += kind.kept
        value = default_of(declared) if value is None else value
        found[name] = Held(value, declared)
        place += kind.after + control_places(name, declared)
        if declared.kind == DYNAMIC:
            waiting += list(brought_inputs(name, declared, value).items())[::-1]
    return found, place


_SCENE_BUTTONS = {"upload3dmodel", "uploadExtraResources", "clear"}


def brought_inputs(name: str, declared: Input, value: object) -> dict[str, Input]:
    """The inputs that the chosen option brings, under dotted names."""
    brought = dynamic_options(declared).get(str(value)) or {}
    return {f"{name}.{key}": found for key, found in declared_inputs(brought, {}).items()}


def inputs_with_options(spec: Spec, values: Mapping[str, object]) -> dict[str, Input]:
    """The class's inputs and those that the chosen options bring; `values` by input name."""
    found: dict[str, Input] = {}
    waiting = list(spec.inputs.items())[::-1]
    while waiting:
        name, declared = waiting.pop()
        found[name] = declared
        if declared.kind == DYNAMIC:
            waiting += list(brought_inputs(name, declared, values.get(name)).items())[::-1]
    return found


def all_inputs(spec: Spec, values: Mapping[str, object]) -> dict[str, Input]:
    """As inputs_with_options, with every input that an autogrow input can have in place of it."""
    return {
        own: one
        for name, declared in inputs_with_options(spec, values).items()
        for own, one in (grown_inputs(name, declared) if declared.kind == AUTOGROW else {name: declared}).items()
    }


def defaults(inputs: Mapping[str, Input]) -> dict[str, object]:
    """Input name -> value of a new node, for the widgets among the inputs and what their options bring."""
    held = _by_name(inputs, {})
    return {name: one.value for name, one in held.items() if one.value is not None}


def _by_name(inputs: Mapping[str, Input], saved: Mapping) -> Widgets:
    found: Widgets = {}
    waiting = list(inputs.items())[::-1]
    while waiting:
        name, declared = waiting.pop()
        if widget_kind(declared) is None:
            continue
        value = saved.get(name)
        found[name] = Held(default_of(declared) if value is None else value, declared)
        if declared.kind == DYNAMIC:
            waiting += list(brought_inputs(name, declared, found[name].value).items())[::-1]
    return found


def _without_sockets(saved: list, spec: Spec) -> list:
    """The values without those that old front ends kept for inputs that are sockets only; the length tells."""
    places: list[bool] = []
    for name, declared in spec.inputs.items():
        forced = bool(declared.options.get("forceInput"))
        if widget_kind(declared) is None and not forced:
            continue
        places.append(forced)
        if declared.options.get("control_after_generate") or not forced and control_places(name, declared):
            places.append(False)
    if len(places) != len(saved) or not any(places):
        return saved
    return [value for value, forced in zip(saved, places) if not forced]


def _misplaced(found: Widgets) -> str | None:
    """The first number that would get a word."""
    return next(
        (name for name, held in found.items() if held.declared.kind in _NUMBERS and not _is_number(held.value)), None
    )


def _is_number(value: object) -> bool:
    if not isinstance(value, str):
        return True
    try:
        float(value)
    except ValueError:
        return value.strip().lower() in ("true", "false", "")
    return True


def _unknown_option(found: Widgets) -> str | None:
    """The first dynamic combo that holds no option of it: what its own would bring is not known."""
    return next(
        (
            name
            for name, held in found.items()
            if held.declared.kind == DYNAMIC and str(held.value) not in dynamic_options(held.declared)
        ),
        None,
    )


def _is_shifted(saved: list, found: Widgets) -> bool:
    """Whether something else stands where control_after_generate has its place: all that follows is then shifted."""
    place = 0
    for name, held in found.items():
        kind = widget_kind(held.declared)
        place += kind.kept if kind else 0
        control = saved[place] if control_places(name, held.declared) and place < len(saved) else None
        if control is not None and control not in _CONTROL:
            return True
        place += (kind.after if kind else 0) + control_places(name, held.declared)
    return False


def _own_choices(saved: list, spec: Spec) -> Widgets:
    """CustomCombo: the choice, its number among the options that follow, and the options, an empty one last."""
    declared = spec.inputs["choice"]
    options = list(saved[2:])
    if "" in options:
        options = options[: options.index("") + 1]
    if not options or options[-1]:
        options.append("")
    choice = saved[0] if saved else ""
    text = Input("STRING", None, {}, False)
    number = options.index(choice) if choice in options else -1
    held = {"choice": Held(choice, declared), "index": Held(number, Input("INT", None, {}, False))}
    return held | {f"option{place}": Held(value, text) for place, value in enumerate(options, 1)}


def _is_seen(node: Node, spec: Spec) -> bool:
    """Whether an output is linked that a 3-D view gives, other than its file: a picture, the camera, a recording."""
    kinds = [*spec.outputs, *(slot.kind for slot in node.outputs[len(spec.outputs) :])]
    return any(slot.links and not kind.startswith(("STRING", "FILE_3D")) for slot, kind in zip(node.outputs, kinds))


def needs_browser(node: Node, spec: Spec) -> str | None:
    """Why a value of this node exists only in a browser; None where all can be had from the workflow."""
    for name, declared in spec.inputs.items():
        if declared.kind == SCENE and name == "image" and _is_seen(node, spec):
            return f"its input {name!r} is a picture of a 3-D scene, which only the canvas in a browser draws"
        if declared.kind == CAMERA:
            return f"its input {name!r} is taken by the browser's camera"
        if declared.kind == AUTOGROW:
            template = declared.options.get("template")
            inner = declared_inputs((template.get("input") or {}) if isinstance(template, Mapping) else {}, {})
            if any(widget_kind(found) for found in inner.values()):
                return f"its input {name!r} grows widgets, which is not known here"
    return None
