"""The values a node keeps on the canvas: `widgets_values`, by position, read in the order of INPUT_TYPES.

From ComfyUI_frontend 1.49.6: scripts/widgets.ts (the slot of control_after_generate), useIntWidget.ts,
shared-frontend-utils/src/formatUtil.ts (dynamic prompts), lib/litegraph/src/LGraphNode.ts (configure).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from .graph import Input, Spec, WorkflowError

_SEEDS = ("seed", "noise_seed")
_UPLOADS = ("image_upload", "video_upload", "audio_upload", "mesh_upload", "animated_image_upload")
_COMMENT = re.compile(r"/\*[\s\S]*?\*/|//.*")
_CONTROL = {"fixed", "increment", "decrement", "randomize"}


def widget_values(node: Mapping, spec: Spec, notes: list[str], label: str) -> dict[str, object]:
    """Input name -> value for every widget of the node, defaults where the canvas kept none."""
    saved = node.get("widgets_values")
    widgets = {name: found for name, found in spec.inputs.items() if found.is_widget}
    if isinstance(saved, Mapping):
        values = {name: saved[name] for name in widgets if name in saved}
    elif saved is None or isinstance(saved, list):
        values = _by_position(saved or [], spec, notes, label)
    else:
        raise WorkflowError(f"{label}: its widgets_values are neither a list nor a table: the workflow is damaged")
    result = {}
    for name, found in widgets.items():
        value = values.get(name)
        value = _default(found) if value is None else value
        if found.options.get("dynamicPrompts") and isinstance(value, str):
            value = dynamic_prompt(value)
        result[name] = {"__value__": value} if isinstance(value, list) else value
    return {name: value for name, value in result.items() if value is not None}


def is_value_for(given: str, wanted: str) -> bool:
    """Whether the canvas lets an output of one type into an input of another ("A,B" is either; "*" is any)."""
    if given in ("", "*", "0") or wanted in ("", "*", "0"):
        return True
    one, other = ({kind.strip().lower() for kind in kinds.split(",")} for kinds in (given, wanted))
    return bool(one & other)


def dynamic_prompt(text: str) -> str:
    """A prompt as the canvas sends it: comments gone, one of {a|b} chosen at random, \\{ kept as {."""
    chosen, _ = _choose(_COMMENT.sub("", text), 0, inside=False)
    return re.sub(r"\\([{}|])", r"\1", chosen)


def _choose(text: str, place: int, *, inside: bool) -> tuple[str, int]:
    options, current = [], ""
    while place < len(text):
        letter = text[place]
        place += 1
        if letter == "\\" and place < len(text):
            current += letter + text[place]
            place += 1
        elif letter == "{":
            inner, place = _choose(text, place, inside=True)
            current += inner
        elif inside and letter == "}":
            break
        elif inside and letter == "|":
            options.append(current)
            current = ""
        else:
            current += letter
    return random.choice([*options, current]), place


def _by_position(saved: list, spec: Spec, notes: list[str], label: str) -> dict[str, object]:
    """Old frontends also kept values for inputs that are sockets only; the length tells which."""
    slots = _slots(spec, with_sockets=False)
    old_slots = _slots(spec, with_sockets=True)
    if len(saved) == len(old_slots) > len(slots):
        slots = [name if name is None or spec.inputs[name].is_widget else None for name in old_slots]
    has_button = any(found.options.get(key) for found in spec.inputs.values() for key in _UPLOADS)
    if len(saved) > len(slots) + has_button:
        notes.append(
            f"{label}: the workflow keeps {len(saved)} values for it and the class knows {len(slots)}; the "
            "last ones were left out, as the canvas does"
        )
    for value, name in zip(saved, slots):
        if (
            name is not None
            and isinstance(value, str)
            and value in _CONTROL
            and spec.inputs[name].kind in ("INT", "FLOAT", "BOOLEAN")
        ):
            raise WorkflowError(
                f"{label}: its saved values do not fit its inputs ({name!r} would get {value!r}): it "
                "was saved with another version of this class; open and save it in the canvas again"
            )
    return {name: value for value, name in zip(saved, slots) if name is not None}


def _slots(spec: Spec, *, with_sockets: bool) -> list[str | None]:
    """The name that each place of widgets_values belongs to; None for what is not sent."""
    slots: list[str | None] = []
    for name, found in spec.inputs.items():
        forced = found.options.get("forceInput")
        if not (found.is_widget or with_sockets and forced and found.kind in ("INT", "FLOAT", "STRING", "BOOLEAN")):
            continue
        slots.append(name)
        control = found.options.get("control_after_generate", found.kind == "INT" and name in _SEEDS)
        if control and found.is_widget and found.kind == "INT":
            slots.append(None)
        elif control and found.is_widget and found.kind == "COMBO":
            slots += [None, None]  # the second is control_filter_list
    return slots


def _default(found: Input) -> object:
    """What the canvas puts into a new node."""
    if "default" in found.options:
        return found.options["default"]
    if found.kind == "COMBO":
        return found.choices[0] if found.choices else None
    return {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(found.kind)
