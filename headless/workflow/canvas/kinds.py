"""Which inputs are widgets on the canvas, and how many places each takes in widgets_values.

From ComfyUI_frontend 1.49.6: scripts/widgets.ts and the widget composables, extensions/core/uploadAudio.ts, load3d.ts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..graph import Input, declared_inputs

DYNAMIC, AUTOGROW, MATCH = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3", "COMFY_MATCHTYPE_V3"
SCENE, CAMERA, RECORDER = "LOAD_3D", "WEBCAM", "AUDIO_RECORD"
NO_SCENE = "threed/cvl_no_scene.png"  # an empty picture, uploaded in place of one that nothing uses
_SEEDS = ("seed", "noise_seed")
_UPLOADS = ("image_upload", "video_upload", "animated_image_upload", "audio_upload")


@dataclass(frozen=True)
class Kind:
    """A widget: its value in a new node, the places kept before and after its own, whether its own is kept."""

    default: object
    kept: bool = True
    after: int = 0
    before: int = 0


_KINDS = {
    "INT": Kind(0),
    "FLOAT": Kind(0),
    "STRING": Kind(""),
    "BOOLEAN": Kind(False),
    "COMBO": Kind(None),
    "MARKDOWN": Kind(""),
    "TEXTAREA": Kind(""),
    "COLOR": Kind("#000000"),
    "COLORS": Kind([]),
    "CURVE": Kind({"points": [[0, 0], [1, 1]], "interpolation": "monotone_cubic"}),
    "RANGE": Kind({"min": 0.0, "max": 1.0}),
    "CHART": Kind({}),
    "GALLERIA": Kind([]),
    "PAINTER": Kind(""),
    "COMPOSITOR": Kind({}),
    "BOUNDING_BOX": Kind({"x": 0, "y": 0, "width": 512, "height": 512}, after=4),
    "BOUNDING_BOXES": Kind([]),
    "VIDEO_EDIT": Kind({}),
    "IMAGECOMPARE": Kind(["", ""], kept=False),
    DYNAMIC: Kind(None),
    SCENE: Kind(""),
    CAMERA: Kind(None),
    RECORDER: Kind("", after=1),
}


def widget_kind(found: Input) -> Kind | None:
    """What kind of widget the canvas makes of an input; None for a socket."""
    return None if found.options.get("forceInput") else _KINDS.get(str(found.options.get("widgetType") or found.kind))


def control_places(name: str, found: Input) -> int:
    """How many places follow for control_after_generate: one after a number, two after a combo (its filter)."""
    kind = str(found.options.get("widgetType") or found.kind)
    asked = found.options.get("control_after_generate", kind == "INT" and name in _SEEDS)
    return {"INT": 1, "FLOAT": 1, "COMBO": 2}.get(kind, 0) if asked else 0


def default_of(found: Input) -> object:
    """What the canvas puts into a new node."""
    kind = widget_kind(found)
    if found.kind == DYNAMIC:
        return next(iter(dynamic_options(found)), None)
    if found.kind == "COMBO":
        given = found.options.get("default")
        return given or (found.choices[0] if found.choices else [] if found.options.get("multi_select") else None)
    given = found.options.get("default")
    return given if given is not None or kind is None else kind.default


def dynamic_options(found: Input) -> dict[str, Mapping]:
    """Key -> the inputs that an option of a dynamic combo brings; whole numbers come first, as in JavaScript."""
    listed = found.options.get("options")
    options = {
        str(option.get("key")): option.get("inputs") or {}
        for option in (listed if isinstance(listed, (list, tuple)) else ())
        if isinstance(option, Mapping)
    }
    numbers = sorted((key for key in options if key.isdecimal() and str(int(key)) == key), key=int)
    return {key: options[key] for key in dict.fromkeys([*numbers, *options])}


def grown_inputs(name: str, found: Input) -> dict[str, Input]:
    """All inputs that an autogrow input can have, under dotted names, the first of them required."""
    template = found.options.get("template")
    template = template if isinstance(template, Mapping) else {}
    inner = next(iter(declared_inputs(template.get("input") or {}, {}).values()), None)
    least, most = template.get("min", 0), template.get("max", 0)
    listed = template.get("names")
    if not isinstance(listed, (list, tuple)):
        listed = [f"{template.get('prefix', '')}{number}" for number in range(most if isinstance(most, int) else 0)]
    least = least if isinstance(least, int) and inner is not None and inner.required else 0
    return {
        f"{name}.{one}": replace(inner, required=place < least) for place, one in enumerate(listed) if inner is not None
    }


def has_upload_button(inputs: Mapping[str, Input]) -> bool:
    """Whether the canvas adds a button, whose value is kept last."""
    return any(found.options.get(key) for found in inputs.values() for key in _UPLOADS)
