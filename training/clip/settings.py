"""What a user says of a CLIP training, by name: a plan's [training] table and the inputs of the node alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches

from ...clip_core.config import CLIPConfig, TextConfig, VisionConfig, text_heads, vision_heads
from ...files.captioned.find import AUTO, WAYS
from .augment import Augmentation
from .plan import ClipPlan
from .presets import AUTO as AUTO_SIZE
from .presets import FLYP, FROM_SCRATCH, PRESETS, SIZES, fitting_size, plan_of
from .saving import AS_TRAINED, WRITES
from .work import BEST

PICTURES = "pictures"
TEMPLATE = "a photo of {}"
_OF_PLAN = {one.name: type(one.default) for one in fields(ClipPlan) if one.name != "augmentation"}
_OF_AUGMENTATION = {one.name: type(one.default) for one in fields(Augmentation)}
_OWN = {"way": str, "preset": str, "writes": str, "filename_prefix": str, "every": int}
KNOWN = (PICTURES, "template", "size", "share", *_OWN, *_OF_PLAN, *_OF_AUGMENTATION)
_OF_SIZE = ("width", "layers", "patch_px", "image_px", "text_width", "text_layers", "embed")


@dataclass(frozen=True)
class ClipSettings:
    """way: how pairs lie, of `find.WAYS`. templates: sentences for the names of classes. size_name: of a CLIP from
    scratch, "": one is given; size: its numbers, None where they are to be chosen by the pictures. changes: numbers
    of the plan in place of the recipe's. every: steps between validations; 0: a tenth of all. share: as in
    `work.ClipJob`.
    """

    way: str = AUTO
    templates: tuple[str, ...] = (TEMPLATE,)
    preset: str = FLYP
    size: CLIPConfig | None = None
    size_name: str = ""
    writes: str = AS_TRAINED
    filename_prefix: str = "clip/trained"
    every: int = 0
    share: float | str = 1.0
    changes: Mapping[str, object] = ()  # type: ignore[assignment]

    @property
    def is_new(self) -> bool:
        """Whether the CLIP is from scratch."""
        return bool(self.size_name)

    def sized(self, side_px: int) -> ClipSettings:
        """The same with the size that suits pictures whose shorter side is usually so long, where it is still open."""
        if self.size_name != AUTO_SIZE:
            return self
        name = fitting_size(side_px)
        return replace(self, size_name=name, size=SIZES[name])

    def plan(self, pictures: int | None = None) -> ClipPlan:
        """The plan, for so many pictures to learn from (see `presets.plan_of`)."""
        return plan_of(self.preset, dict(self.changes), pictures)


def settings_of(given: Mapping[str, object]) -> ClipSettings:
    """The settings that a user gave by name.

    Raises:
        ValueError: an unknown name, a value of another kind, or one that cannot be followed.
    """
    for name in given:
        if name not in KNOWN:
            near = get_close_matches(name, KNOWN, 3, 0.5)
            raise ValueError(
                f"a training of a CLIP has no {name!r}; {'near are' if near else 'there are'} "
                f"{', '.join(near or KNOWN)}"
            )
    own = {name: _typed(name, given[name], kind) for name, kind in _OWN.items() if name in given}
    changes = {name: _typed(name, given[name], kind) for name, kind in _OF_PLAN.items() if name in given}
    size = given.get("size")
    preset = str(own.setdefault("preset", FROM_SCRATCH if size else FLYP))
    if preset not in PRESETS:
        raise ValueError(f"the preset is {preset!r}: expected one of {', '.join(PRESETS)}")
    if picture := {name: _typed(name, given[name], kind) for name, kind in _OF_AUGMENTATION.items() if name in given}:
        recipes = PRESETS[preset].get("augmentation", Augmentation())
        changes["augmentation"] = Augmentation(**(vars(recipes) | picture))  # type: ignore[arg-type]
    for name, choices in (("way", WAYS), ("writes", WRITES)):
        if name in own and own[name] not in choices:
            raise ValueError(f"{name} is {own[name]!r}: expected one of {', '.join(choices)}")
    found = ClipSettings(
        **own,  # type: ignore[arg-type]
        templates=_templates(given.get("template", TEMPLATE)),
        size=None if size in (None, "", AUTO_SIZE) else size_of(size),
        size_name=size if isinstance(size, str) else "its own size" if size else "",
        share=_share(given.get("share", 1.0)),
        changes=changes,
    )
    if found.plan().rank and found.is_new:  # plan() refuses numbers that cannot be followed
        raise ValueError(
            f"the rank is {found.plan().rank}, and a CLIP from scratch has no file that a LoRA could be put on: "
            "connect or name a CLIP to begin with, or choose the rank 0"
        )
    return found


def size_of(size: object) -> CLIPConfig:
    """A size by name, or a table of its own: width, layers, patch_px, image_px, text_width, text_layers, embed.

    Raises:
        ValueError: no such size, or numbers that do not go together.
    """
    if isinstance(size, str):
        if size not in SIZES:
            known = ", ".join((AUTO_SIZE, *SIZES))
            raise ValueError(f"the size is {size!r}: expected one of {known}, or a table of its own")
        return SIZES[size]
    if not isinstance(size, Mapping) or set(size) != set(_OF_SIZE):
        raise ValueError(
            f"a size of one's own has {', '.join(_OF_SIZE)}, each a number, and this is {size!r}: change it"
        )
    numbers = {name: _typed(name, size[name], int) for name in _OF_SIZE}
    if bad := [name for name, number in numbers.items() if not isinstance(number, int) or number < 1]:
        raise ValueError(f"{bad[0]} of the size is {numbers[bad[0]]}: expected 1 or more; change it")
    width, text = int(str(numbers["width"])), int(str(numbers["text_width"]))
    embed = int(str(numbers["embed"]))
    return CLIPConfig(
        TextConfig(text, int(str(numbers["text_layers"])), text_heads(text), 4 * text, embed),
        VisionConfig(
            width,
            int(str(numbers["layers"])),
            vision_heads(width),
            4 * width,
            int(str(numbers["patch_px"])),
            int(str(numbers["image_px"])),
            embed,
        ),
    )


def _typed(name: str, value: object, kind: type) -> object:
    """The value, if it is of this kind; whole numbers are numbers with a point, too."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is float and is_number:
        return float(value)  # type: ignore[arg-type]
    if kind is int and is_number and value == int(value):  # type: ignore[call-overload]
        return int(value)  # type: ignore[call-overload]
    if kind in (str, bool) and isinstance(value, kind):
        return value.strip() if isinstance(value, str) else value
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    raise ValueError(f"{name} is {value!r}: expected {words[kind]}")


def _templates(value: object) -> tuple[str, ...]:
    """One template, a list of them, or one a line."""
    some = value.splitlines() if isinstance(value, str) else value
    if isinstance(some, (list, tuple)) and all(isinstance(one, str) for one in some):
        return tuple(one.strip() for one in some if one.strip())
    raise ValueError(f"template is {value!r}: expected a text such as {TEMPLATE!r}, or a list of them")


def _share(value: object) -> float | str:
    if value == BEST:
        return BEST
    found = float(str(_typed("share", value, float)))
    if not 0 <= found <= 1:
        raise ValueError(f"share is {found:g}: expected 0 (as before) to 1 (as trained), or {BEST!r}")
    return found
