"""The config of an encoder from the shapes of its tensors, and what shapes do not tell from published models."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from ..config import (
    CONTEXT,
    PUBLISHED,
    TEXT_FAMILIES,
    VOCAB,
    CLIPConfig,
    ResNetConfig,
    TextConfig,
    VisionConfig,
    resnet_heads,
    text_heads,
    vision_heads,
    with_activation,
)
from .layouts import LayoutError

_SPARE_TOKENS = 1024  # textual inversion tools append a few rows to the token table
_LONG_CONTEXT = 248  # LongCLIP
_METACLIP_2 = 901_629  # tokens of XLM-V, as in facebook/metaclip-2-worldwide-*
_H_WIDTH, _H_LAYERS = 1024, 24
_OPENAI = "as in OpenAI's weights of this size; most of LAION's have gelu"
_EITHER = {  # sizes that were published with both activations (open_clip 3.3.0, pretrained.py): why one is assumed
    "ViT-B-32": _OPENAI,
    "ViT-B-16": _OPENAI,
    "ViT-L-14": _OPENAI,
    "ViT-H-14": "as in LAION's weights of this size; MetaCLIP's and DFN's have quick_gelu",
    "ViT-bigG-14": "as in LAION's weights of this size; MetaCLIP's have quick_gelu",
}

Shapes = Mapping[str, tuple[int, ...]]  # by our names


Config = TypeVar("Config", bound=TextConfig | VisionConfig | ResNetConfig | CLIPConfig)


@dataclass(frozen=True)
class Inferred(Generic[Config]):
    """A config, with sentences about its oddities and about what was assumed."""

    config: Config
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()  # a note on the activation, where neither a file nor the user names it


def infer_text(shapes: Shapes, activation: str | None = None) -> Inferred[TextConfig]:
    """The config of a text encoder. `activation` None: that of the published model of this size.

    Raises:
        LayoutError: a tensor is missing that a size is read from, or the vocabulary is not CLIP's.
    """
    width = _dimension(shapes, "text_model.final_layer_norm.weight", 0)
    vocab = _dimension(shapes, "text_model.embeddings.token_embedding.weight", 0)
    context = _dimension(shapes, "text_model.embeddings.position_embedding.weight", 0)
    mlp = _dimension(shapes, "text_model.encoder.layers.0.mlp.fc1.weight", 0)
    layers, notes = _layers(shapes, "text_model"), []
    if vocab == _METACLIP_2:
        raise LayoutError("it is MetaCLIP 2, whose texts need the tokenizer of 900,000 tokens that is not read here")
    if not VOCAB <= vocab <= VOCAB + _SPARE_TOKENS:
        raise LayoutError(f"its vocabulary has {vocab} tokens and CLIP's has {VOCAB}: made for another tokenizer")
    if vocab > VOCAB:
        notes.append(f"{vocab - VOCAB} tokens were added to the vocabulary; no text leads to them")
    if context not in (CONTEXT, _LONG_CONTEXT):
        notes.append(f"it takes {context} tokens at a time, where {CONTEXT} are usual")
    if (width, layers) == (_H_WIDTH, _H_LAYERS - 1):
        layers = _H_LAYERS
        notes.append(
            "23 of 24 layers, as diffusers saves SD2: a layer that changes nothing stands in for the last, so "
            "layer -2 is right and the pooled vector is that of layer 23"
        )
    embed = shapes["text_projection.weight"][0] if "text_projection.weight" in shapes else width
    usual, assumed = _text_activation(width, layers)
    config = TextConfig(width, layers, text_heads(width), mlp, embed, vocab, context, activation or usual)
    return Inferred(config, tuple(notes), assumed if activation is None else ())


def infer_vision(
    shapes: Shapes, activation: str | None = None, heads: int | None = None
) -> Inferred[VisionConfig | ResNetConfig]:
    """The config of an image encoder. `activation` and `heads` None: those of the published model of this size.

    Raises:
        LayoutError: a tensor is missing that a size is read from, or the patches do not make a square.
    """
    if "vision_model.attnpool.positional_embedding" in shapes:
        return Inferred(_infer_resnet(shapes, heads))
    grid = _grid(shapes, "vision_model.embeddings.position_embedding.weight", "patches")
    width = _dimension(shapes, "vision_model.embeddings.class_embedding", 0)
    patch_px = _dimension(shapes, "vision_model.embeddings.patch_embedding.weight", 3)
    mlp = _dimension(shapes, "vision_model.encoder.layers.0.mlp.fc1.weight", 0)
    embed = shapes["visual_projection.weight"][0] if "visual_projection.weight" in shapes else width
    heads, layers = heads or vision_heads(width), _layers(shapes, "vision_model")
    sizes = (width, layers, heads, mlp, patch_px, grid * patch_px, embed)
    if activation is not None:
        return Inferred(VisionConfig(*sizes, activation))
    for name, clip in PUBLISHED.items():
        if isinstance(clip.vision, VisionConfig) and VisionConfig(*sizes, clip.vision.activation) == clip.vision:
            return Inferred(clip.vision, assumed=_assumed(clip.vision.activation, name))
    activation = "gelu" if width > 1024 else "quick_gelu"
    return Inferred(VisionConfig(*sizes, activation), assumed=_assumed(activation))


def _infer_resnet(shapes: Shapes, heads: int | None) -> ResNetConfig:
    grid = _grid(shapes, "vision_model.attnpool.positional_embedding", "places")
    width = _dimension(shapes, "vision_model.layer1.0.conv1.weight", 0)
    embed = _dimension(shapes, "visual_projection.weight", 0)
    first, second, third, last = (
        _count(shapes, rf"vision_model\.layer{stage}\.(\d{{1,9}})\.") for stage in (1, 2, 3, 4)
    )
    try:
        return ResNetConfig(width, (first, second, third, last), heads or resnet_heads(width), 32 * grid, embed)
    except ValueError as error:
        raise LayoutError(str(error)) from error


def infer_clip(
    text: TextConfig, vision: VisionConfig | ResNetConfig, activation: str | None = None
) -> Inferred[CLIPConfig]:
    """The config of a pair. The published pair of these sizes, if any, decides the activation of both halves and the
    preparation of pictures.

    Raises:
        LayoutError: the halves have no space in common.
    """
    if text.embed != vision.embed:
        raise LayoutError(
            f"texts are embedded in {text.embed} dimensions and pictures in {vision.embed}: they are no pair"
        )
    found = with_activation(CLIPConfig(text, vision), activation or text.activation)
    for name, published in PUBLISHED.items():
        prepared = replace(found, mean=published.mean, std=published.std, resize=published.resize)
        if with_activation(prepared, published.text.activation) == published:
            config = published if activation is None else prepared
            return Inferred(config, assumed=() if activation else _assumed(config.text.activation, name))
    return Inferred(found, assumed=() if activation else _assumed(text.activation))


def family_of_text(config: TextConfig) -> str:
    """ "clip_l", "clip_h", "clip_g" by width and layers, or "custom"."""
    sizes = {(c.width, c.layers): name for name, c in TEXT_FAMILIES.items()}
    return sizes.get((config.width, config.layers), "custom")


def _text_activation(width: int, layers: int) -> tuple[str, tuple[str, ...]]:
    for config in TEXT_FAMILIES.values():
        if (config.width, config.layers) == (width, layers):
            return config.activation, ()  # a diffusion model's: there are no others
    activation = "quick_gelu" if width <= 1024 else "gelu"
    return activation, _assumed(activation)


def _assumed(activation: str, published: str | None = None) -> tuple[str, ...]:
    """The note on an assumed activation; none where every published model of this size has it."""
    if published is not None and published not in _EITHER:
        return ()
    other = "gelu" if activation == "quick_gelu" else "quick_gelu"
    why = f", {_EITHER[published]}" if published else ""
    return (f"the file does not say the activation: {activation} is assumed{why}. Choose {other} if that is wrong",)


def _dimension(shapes: Shapes, name: str, axis: int) -> int:
    if name not in shapes:
        raise LayoutError(f"it is incomplete: {name} is missing under every name that is known here")
    if len(shapes[name]) <= axis:
        raise LayoutError(f"{name} has the shape {list(shapes[name])}, with too few dimensions for a CLIP")
    return shapes[name][axis]


def _grid(shapes: Shapes, table: str, what: str) -> int:
    """The side of an image encoder's square of positions; the class token, or the mean, is not among them."""
    count = _dimension(shapes, table, 0) - 1
    side = math.isqrt(max(count, 0))
    if side < 1 or side**2 != count:
        raise LayoutError(f"its image encoder has {count} {what}, which make no square")
    return side


def _layers(shapes: Shapes, half: str) -> int:
    return _count(shapes, rf"{half}\.encoder\.layers\.(\d{{1,9}})\.")


def _count(shapes: Shapes, numbered: str) -> int:
    """The number of modules in a row, by the largest number in their names."""
    matches = (re.match(numbered, name) for name in shapes)
    count = 1 + max((int(match.group(1)) for match in matches if match), default=-1)
    if count > len(shapes):  # before a network of that size is built
        raise LayoutError(f"it is incomplete: it has a layer number {count - 1}, and {len(shapes)} tensors in all")
    return count
