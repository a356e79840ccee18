"""The facts about a CLIP that its tensors do not hold: activation, heads of the image encoder, preparation of pictures.

They are parsed from Hugging Face's config.json and preprocessor_config.json, from open_clip's open_clip_config.json,
and from the names under which weights were published (open_clip 3.3.0, pretrained.py). A name is a hint, and its note
says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..config import ACTIVATIONS, OPENAI_MEAN, OPENAI_STD, CLIPConfig

_HALF = (0.5, 0.5, 0.5)
_SAME = {"gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}  # transformers' names: ours
_BICUBIC = 3  # Pillow's number
_RESIZE = {"squash": "squash", "shortest": "crop"}  # open_clip's: ours


@dataclass(frozen=True)
class Facts:
    """Facts that tensors do not hold; None where one is not known."""

    activation: str | None = None
    heads: int | None = None  # of the image encoder
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resize: str | None = None

    def without(self, known: Facts) -> Facts:
        """The facts that `known` lacks."""
        return Facts(
            self.activation if known.activation is None else None,
            self.heads if known.heads is None else None,
            self.mean if known.mean is None else None,
            self.std if known.std is None else None,
            self.resize if known.resize is None else None,
        )

    def completed_by(self, other: Facts) -> Facts:
        """These facts, and those of `other` where one is missing."""
        return Facts(
            self.activation or other.activation,
            self.heads or other.heads,
            self.mean or other.mean,
            self.std or other.std,
            self.resize or other.resize,
        )

    def words(self) -> list[str]:
        """The facts for a note, OpenAI's own preparation of pictures left out."""
        colours = (("mean", self.mean, OPENAI_MEAN), ("std", self.std, OPENAI_STD))
        return [
            *([self.activation] if self.activation else []),
            *([f"{self.heads} heads"] if self.heads else []),
            *(
                f"{name} {', '.join(f'{part:g}' for part in own)}"
                for name, own, usual in colours
                if own and own != usual
            ),
            *([self.resize] if self.resize and self.resize != "crop" else []),
        ]


_NAMES: tuple[tuple[str, str, Facts], ...] = (  # a pattern of lower-case names, `_` for `-` and `.`; the first wins
    (r"dfn5b", "DFN-5B", Facts(activation="quick_gelu", resize="squash")),
    (r"dfn2b.*39b", "DFN-2B, 39B samples", Facts(activation="gelu")),
    (r"dfn", "DFN", Facts(activation="quick_gelu")),
    (r"altogether", "MetaCLIP 1.2", Facts(activation="gelu")),
    (r"metaclip|fullcc", "MetaCLIP", Facts(activation="quick_gelu")),
    (r"quick_?gelu", "quickgelu", Facts(activation="quick_gelu")),
    (r"openai", "OpenAI", Facts(activation="quick_gelu")),
    (r"l_14.*laion2b_s32b_b82k", "LAION-2B, 32B samples", Facts(activation="gelu", mean=_HALF, std=_HALF)),
    (r"vit_b_32.*laion_?400m", "LAION-400M, B/32", Facts(activation="quick_gelu")),
    (r"laion|datacomp|commonpool", "LAION or DataComp", Facts(activation="gelu")),
)


_OTHER_RESAMPLING = (
    "preprocessor_config.json asks for another interpolation than the bicubic one that is done here: features differ a "
    "little"
)


class FactsError(ValueError):
    """A config file is not as it should be. One sentence, without the name of the file."""


@dataclass(frozen=True)
class CLIPFacts:
    """Facts from one source; None for a fact that it does not have. `notes` are sentences about the entries that could
    not be used.
    """

    facts: Facts = field(default_factory=Facts)
    width: int | None = None  # of the image encoder that the facts are about
    source: str = ""  # "config.json", for notes
    notes: tuple[str, ...] = ()

    @property
    def activation(self) -> str | None:
        return self.facts.activation

    @property
    def heads(self) -> int | None:
        """Heads of the image encoder."""
        return self.facts.heads

    def complete(self, config: CLIPConfig) -> CLIPConfig:
        """The config with these facts about the preparation of pictures."""
        facts = self.facts
        return replace(
            config,
            mean=facts.mean or config.mean,
            std=facts.std or config.std,
            resize=facts.resize or config.resize,
        )


def combine(*sources: CLIPFacts) -> CLIPFacts:
    """Take each fact from the first source that has it, with a note on the facts that each source gave."""
    known, notes = Facts(), []
    for source in sources:
        new = source.facts.without(known)
        known = known.completed_by(new)
        words = new.words()
        if words and source.source:
            notes.append(f"after {source.source}: {', '.join(words)}")
        notes += source.notes
    return CLIPFacts(known, notes=tuple(notes))


def keep_fitting(found: CLIPFacts, shapes: Mapping[str, Sequence[int]]) -> CLIPFacts:
    """Keep a config's facts only if it describes an image encoder of this file, by its width; otherwise drop them and
    say so in a note. A folder can have the config.json of one model and the weights of many.
    """
    ends = ("class_embedding", "layer1.0.conv1.weight")
    widths = {shape[0] for name, shape in shapes.items() if name.endswith(ends) and shape}
    if found.width is None or not widths or found.width in widths:
        return found
    note = f"{found.source} is not about this model (width {found.width}, here {min(widths)}): left out"
    return CLIPFacts(notes=(note,))


def parse_hugging_face(config: Mapping[str, object]) -> CLIPFacts:
    """Parse a config.json of transformers. A CLIP's config without an activation means transformers' default,
    quick_gelu.

    Raises:
        FactsError: an entry that should be an object or a number is not.
    """
    text = _object(config, "text_config") or config
    vision = _object(config, "vision_config") or config
    default = "quick_gelu" if str(config.get("model_type", "")).startswith("clip") else None
    named = text.get("hidden_act", default)
    named = _SAME.get(named, named) if isinstance(named, str) else named
    activation = next((known for known in ACTIVATIONS if known == named), None)
    notes: tuple[str, ...] = ()
    if named is not None and activation is None:
        notes = (f"config.json has the activation {str(named)[:40]!r}, which is not known here",)
    if vision is config:
        return CLIPFacts(Facts(activation), source="config.json", notes=notes)
    heads, width = _number(vision, "num_attention_heads"), _number(vision, "hidden_size")
    return CLIPFacts(Facts(activation, heads), width, "config.json", notes)


def parse_processor(config: Mapping[str, object]) -> CLIPFacts:
    """Parse a preprocessor_config.json of transformers.

    Raises:
        FactsError: mean or deviation are not three numbers.
    """
    size, resize = config.get("size"), None
    if isinstance(size, Mapping):
        resize = "squash" if {"height", "width"} <= size.keys() and not config.get("do_center_crop") else "crop"
    mean, std = _colours(config, "image_mean"), _colours(config, "image_std")
    resample = config.get("resample", _BICUBIC)
    notes = () if resample == _BICUBIC else (_OTHER_RESAMPLING,)
    return CLIPFacts(Facts(mean=mean, std=std, resize=resize), source="preprocessor_config.json", notes=notes)


def parse_open_clip(config: Mapping[str, object]) -> CLIPFacts:
    """Parse an open_clip_config.json.

    Raises:
        FactsError: an entry that should be an object or a number is not.
    """
    model, pictures = _object(config, "model_cfg") or {}, _object(config, "preprocess_cfg") or {}
    vision = _object(model, "vision_cfg") or {}
    notes: tuple[str, ...] = ()
    width, head = _number(vision, "width"), _number(vision, "head_width") or 64
    heads = width // head if width and isinstance(vision.get("layers"), int) else None
    mode = pictures.get("resize_mode")
    resize = _RESIZE.get(mode) if isinstance(mode, str) else None
    if mode is not None and resize is None:
        notes = (f"open_clip_config.json asks for the resize_mode {str(mode)[:40]!r}, which is not done here",)
    if pictures.get("interpolation", "bicubic") != "bicubic":
        asked = str(pictures["interpolation"])[:40]
        notes += (f"open_clip_config.json asks for {asked!r} as interpolation; here it is bicubic",)
    activation = ("quick_gelu" if model.get("quick_gelu") else "gelu") if model else None
    if "siglip" in str(vision.get("timm_model_name")):
        activation = None  # not in this file: timm's is exact, the weights were trained with the approximation
    facts = Facts(activation, heads, _colours(pictures, "mean"), _colours(pictures, "std"), resize)
    return CLIPFacts(facts, width, "open_clip_config.json", notes)


def parse_name(name: str) -> CLIPFacts:
    """Infer facts from the name under which weights were published: that of a file, with its folder's."""
    plain = re.sub(r"[-. ]", "_", name.lower())
    for pattern, whose, facts in _NAMES:
        if re.search(pattern, plain):
            source = f"its name, which is that of {whose} (choose another activation if it is not)"
            return CLIPFacts(facts, source=source)
    return CLIPFacts()


def _object(config: Mapping[str, object], name: str) -> Mapping[str, object] | None:
    found = config.get(name)
    if found is not None and not isinstance(found, Mapping):
        raise FactsError(
            f"its {name} should be an object {{...}} and is a {type(found).__name__}; get the file that "
            "belongs to the model, or remove it"
        )
    return found


def _number(config: Mapping[str, object], name: str) -> int | None:
    found = config.get(name)
    if found is None:
        return None
    if not isinstance(found, int) or isinstance(found, bool) or not 0 < found < 2**20:
        raise FactsError(
            f"its {name} should be a whole number above 0 and is {str(found)[:40]!r}; get the file that "
            "belongs to the model, or remove it"
        )
    return found


def _colours(config: Mapping[str, object], name: str) -> tuple[float, float, float] | None:
    found = config.get(name)
    if found is None:
        return None
    numbers = [float(value) for value in found if type(value) in (int, float)] if isinstance(found, list) else []
    complete = isinstance(found, list) and len(numbers) == len(found) == 3 and all(map(math.isfinite, numbers))
    if not complete or (name.endswith("std") and min(numbers) <= 0):
        raise FactsError(
            f"its {name} should be three numbers, one for each colour, and is {str(found)[:40]!r}; get the "
            "file that belongs to the model, or remove it"
        )
    red, green, blue = numbers
    return red, green, blue
