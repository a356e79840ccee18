"""What is told about a CLIP beside its tensors: activation, heads of the image encoder, how pictures are prepared.

Sources: a Hugging Face config.json and preprocessor_config.json; open_clip's open_clip_config.json; the names under
which weights were published (open_clip 3.3.0, pretrained.py), which are a hint and are announced as one.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..config import ACTIVATIONS, OPENAI_MEAN, OPENAI_STD, CLIPConfig

_HALF = (0.5, 0.5, 0.5)
_NAMES = (  # a pattern in the small letters of a name, `_` for `-` and `.`; the first that fits wins
    (r"dfn5b", "DFN-5B", {"activation": "quick_gelu", "resize": "squash"}),
    (r"dfn2b.*39b", "DFN-2B, 39B samples", {"activation": "gelu"}),
    (r"dfn", "DFN", {"activation": "quick_gelu"}),
    (r"altogether", "MetaCLIP 1.2", {"activation": "gelu"}),
    (r"metaclip|fullcc", "MetaCLIP", {"activation": "quick_gelu"}),
    (r"quick_?gelu", "quickgelu", {"activation": "quick_gelu"}),
    (r"openai", "OpenAI", {"activation": "quick_gelu"}),
    (r"l_14.*laion2b_s32b_b82k", "LAION-2B, 32B samples", {"activation": "gelu", "mean": _HALF, "std": _HALF}),
    (r"vit_b_32.*laion_?400m", "LAION-400M, B/32", {"activation": "quick_gelu"}),
    (r"laion|datacomp|commonpool", "LAION or DataComp", {"activation": "gelu"}),
)
_RESIZE = {"squash": "squash", "shortest": "crop"}  # open_clip's: ours
_FACTS = ("activation", "heads", "mean", "std", "resize")
_USUAL = {"mean": OPENAI_MEAN, "std": OPENAI_STD, "resize": "crop"}


class ToldError(ValueError):
    """A document does not say it in the way it should. One sentence, without the name of the file."""


@dataclass(frozen=True)
class Told:
    """None: not told. `source` is what told it, `notes` what it said that could not be used."""

    activation: str | None = None
    heads: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resize: str | None = None
    width: int | None = None  # of the image encoder it is about
    source: str = ""
    notes: tuple[str, ...] = ()

    def prepared(self, config: CLIPConfig) -> CLIPConfig:
        """The config with what is told about the preparation of pictures."""
        said = {name: getattr(self, name) for name in _USUAL}
        return replace(config, **{name: value for name, value in said.items() if value is not None})


def combined(*several: Told) -> Told:
    """Each fact from the first that tells it, and a note on what each source gave."""
    facts, notes = {}, []
    for told in several:
        new = {name: getattr(told, name) for name in _FACTS if name not in facts}
        new = {name: value for name, value in new.items() if value is not None}
        facts |= new
        said = [_words(name, value) for name, value in new.items() if value != _USUAL.get(name)]
        if said and told.source:
            notes.append(f"after {told.source}: {', '.join(said)}")
        notes += told.notes
    return Told(**facts, notes=tuple(notes))


def fitting(told: Told, shapes: Mapping[str, Sequence[int]]) -> Told:
    """What is told if it is about an image encoder as wide as one of those in a file, and otherwise that it is not: a
    folder can have the config.json of one model and the weights of many.
    """
    ends = ("class_embedding", "layer1.0.conv1.weight")
    widths = {shape[0] for name, shape in shapes.items() if name.endswith(ends) and shape}
    if told.width is None or not widths or told.width in widths:
        return told
    return Told(notes=(f"{told.source} is not about this model (width {told.width}, here {min(widths)}): left out",))


def _words(name: str, value: object) -> str:
    if name in ("activation", "resize"):
        return str(value)
    return f"{value} heads" if name == "heads" else f"{name} {', '.join(f'{part:g}' for part in value)}"


def told_by_hugging_face(config: Mapping[str, object]) -> Told:
    """What a config.json of transformers says. Where the model is a CLIP and the activation is left out, it is
    transformers' default, quick_gelu.

    Raises:
        ToldError: a part of it that should be an object or a number is none.
    """
    text = _object(config, "text_config") or config
    vision = _object(config, "vision_config") or config
    default = "quick_gelu" if str(config.get("model_type", "")).startswith("clip") else None
    activation, heads, notes = text.get("hidden_act", default), None, ()
    if activation is not None and activation not in ACTIVATIONS:
        notes = (f"config.json has the activation {str(activation)[:40]!r}, which is not known here",)
        activation = None
    if vision is not config:
        heads = _number(vision, "num_attention_heads")
    width = _number(vision, "hidden_size") if vision is not config else None
    return Told(activation, heads, width=width, source="config.json", notes=notes)


def told_by_processor(config: Mapping[str, object]) -> Told:
    """What a preprocessor_config.json of transformers says.

    Raises:
        ToldError: mean or deviation are not three numbers.
    """
    size, resize = config.get("size"), None
    if isinstance(size, Mapping):
        resize = "squash" if {"height", "width"} <= size.keys() and not config.get("do_center_crop") else "crop"
    mean, std = _colours(config, "image_mean"), _colours(config, "image_std")
    return Told(mean=mean, std=std, resize=resize, source="preprocessor_config.json")


def told_by_open_clip(config: Mapping[str, object]) -> Told:
    """What an open_clip_config.json says.

    Raises:
        ToldError: a part of it that should be an object or a number is none.
    """
    model, pictures = _object(config, "model_cfg") or {}, _object(config, "preprocess_cfg") or {}
    vision, notes = _object(model, "vision_cfg") or {}, ()
    width, head = _number(vision, "width"), _number(vision, "head_width") or 64
    heads = width // head if width and isinstance(vision.get("layers"), int) else None
    mode = pictures.get("resize_mode")
    if mode is not None and mode not in _RESIZE:
        notes = (f"open_clip_config.json asks for the resize_mode {str(mode)[:40]!r}, which is not done here",)
    if pictures.get("interpolation", "bicubic") != "bicubic":
        asked = str(pictures["interpolation"])[:40]
        notes += (f"open_clip_config.json asks for {asked!r} as interpolation; here it is bicubic",)
    activation = ("quick_gelu" if model.get("quick_gelu") else "gelu") if model else None
    colours = _colours(pictures, "mean"), _colours(pictures, "std")
    return Told(activation, heads, *colours, _RESIZE.get(mode), width, "open_clip_config.json", notes)


def told_by_name(name: str) -> Told:
    """What the name under which weights were published says, of a file or its folder."""
    plain = re.sub(r"[-. ]", "_", name.lower())
    for pattern, whose, facts in _NAMES:
        if re.search(pattern, plain):
            return Told(**facts, source=f"its name, which is that of {whose} (choose another activation if it is not)")
    return Told()


def _object(config: Mapping[str, object], name: str) -> Mapping[str, object] | None:
    found = config.get(name)
    if found is not None and not isinstance(found, Mapping):
        raise ToldError(
            f"its {name} should be an object {{...}} and is a {type(found).__name__}; get the file that "
            "belongs to the model, or remove it"
        )
    return found


def _number(config: Mapping[str, object], name: str) -> int | None:
    found = config.get(name)
    if found is not None and (type(found) is not int or not 0 < found < 2**20):
        raise ToldError(
            f"its {name} should be a whole number above 0 and is {str(found)[:40]!r}; get the file that "
            "belongs to the model, or remove it"
        )
    return found


def _colours(config: Mapping[str, object], name: str) -> tuple[float, float, float] | None:
    found = config.get(name)
    if found is None:
        return None
    good = isinstance(found, list) and len(found) == 3 and all(type(value) in (int, float) for value in found)
    if not good or not all(math.isfinite(value) for value in found) or (name.endswith("std") and min(found) <= 0):
        raise ToldError(
            f"its {name} should be three numbers, one for each colour, and is {str(found)[:40]!r}; get the "
            "file that belongs to the model, or remove it"
        )
    return tuple(float(value) for value in found)
