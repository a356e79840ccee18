"""From a file's names and shapes to its CLIP encoders: where they are, their sizes, and their tensors under our names.

Only names and shapes are looked at, so that a caller need read no more than a source's `names` from disk; `translate`
then takes the tensors. The names themselves are in `layouts.py`; what is no CLIP is named in `foreign.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from ..config import CLIP_H, CLIPConfig, Config, ResNetConfig, TextConfig, VisionConfig, from_metadata
from ..networks.clip import CLIP
from ..networks.layers import UNFILLED, Device, Dtype, Operations
from ..networks.siglip import network_of
from ..networks.text import CLIPText
from ..siglip_config import SigLIPConfig, siglip_from_metadata
from .foreign import looks_like, relative_of_clip
from .layouts import LayoutError, Origin, Origins, Root, Shapes, base, belong_together, origins, roots
from .recipe import Source, recipe
from .siglip import infer_siglip, siglip_origins, siglip_root
from .sizes import Inferred, family_of_text, infer_clip, infer_text, infer_vision

_WANTED = "A CLIP in the names of Hugging Face, OpenAI or open_clip, alone or inside a checkpoint, was expected"


@dataclass(frozen=True)
class TextSource(Source):
    config: TextConfig
    family: str  # "clip_l", "clip_h", "clip_g" or "custom"
    has_projection: bool  # False: the projection that `translate` gives is a placeholder, and `build` says so

    def build(self, operations: Operations = nn, device: Device = None, dtype: Dtype = None) -> CLIPText:
        """A network that the translated tensors fit into."""
        return CLIPText(self.config, operations, device, dtype, has_projection=self.has_projection)


@dataclass(frozen=True)
class CLIPSource(Source):
    config: CLIPConfig

    def build(self, operations: Operations = nn, device: Device = None, dtype: Dtype = None) -> CLIP:
        """A network that the translated tensors fit into."""
        return network_of(self.config, operations, device, dtype)


def find_text_encoders(
    shapes: Shapes, metadata: Mapping[str, str] | None = None, activation: str | None = None
) -> list[TextSource]:
    """The text encoders in a file, at least one, in the order of their prefixes.

    `metadata` is the file's header; `activation` overrides what is assumed (see `notes`).

    Raises:
        LayoutError: there are none, one is incomplete, or the file is of a kind that is not read here.
    """
    found = roots(shapes, "text")
    _refuse_relatives(shapes, found)
    if not found:
        raise LayoutError(f"no CLIP text encoder is in it; it looks like {looks_like(shapes)}. {_WANTED}")
    written = _config_of(metadata, from_metadata)
    return [_text_source(shapes, root, written, activation) for root in found]


def find_clip(
    shapes: Shapes,
    metadata: Mapping[str, str] | None = None,
    activation: str | None = None,
    *,
    heads: int | None = None,
) -> CLIPSource:
    """Find the pair of encoders in a file, by its tensors' names and shapes alone.

    Args:
        shapes: tensor name -> shape, as the file's header has them.
        metadata: the file's header; sizes that our own training wrote there are taken as they are.
        activation: "gelu" or "quick_gelu", in place of what is assumed for the sizes (see the source's `notes`).
        heads: how many heads a block of the image transformer, or a ResNet's pooling, has; else assumed too.

    Returns:
        the source: `names` are the tensors to read, `translate` gives them our names, `build` the network they fit
        into, `config` its sizes, `notes` what was assumed.

    Raises:
        LayoutError: there is no pair or more than one, it is incomplete, or of a kind that is not read here.
        ValueError: so many heads cannot share the width.

    >>> config = CLIPConfig(TextConfig(64, 2, 1, 128, 32), VisionConfig(64, 2, 1, 128, 8, 32, 32))
    >>> tensors = CLIP(config).state_dict()
    >>> source = find_clip({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    >>> source.config.text.width, source.config.vision.patch_px, len(source.names) == len(tensors)
    (64, 8, True)
    >>> source.build().load_state_dict(source.translate(tensors))
    <All keys matched successfully>
    """
    siglip = siglip_root(shapes)
    if siglip is not None:
        return _siglip_source(shapes, siglip, _config_of(metadata, siglip_from_metadata), activation, heads)
    texts, images = roots(shapes, "text"), roots(shapes, "vision")
    _refuse_relatives(shapes, [*texts, *images])
    pairs = [(text, image) for text in texts for image in images if belong_together(text, image)]
    if len(pairs) == 1:
        return _clip_source(shapes, *pairs[0], _config_of(metadata, from_metadata), activation, heads)
    if texts and not images and relative_of_clip(shapes):
        raise LayoutError(f"it is {relative_of_clip(shapes)}, whose image encoder is another network. {_WANTED}")
    if pairs:
        places = ", ".join(repr(image.prefix) for _, image in pairs)
        raise LayoutError(f"it holds {len(pairs)} CLIPs, under {places}; a file with one was expected")
    counts = {"text": len(texts), "image": len(images)}
    halves = " and ".join(f"{count} {half} encoder(s)" for half, count in counts.items() if count)
    seen = f"it holds {halves}, but no pair" if halves else f"no CLIP is in it; it looks like {looks_like(shapes)}"
    raise LayoutError(f"{seen}. Both halves of a CLIP in one file were expected")


def family_of(sources: Sequence[TextSource]) -> str:
    """The diffusion family (a name in `families.FAMILIES`) whose text encoders these are.

    Raises:
        LayoutError: no family has just these.
    """
    kinds = {source.family for source in sources}
    inside = {source.prefix.split(".")[0] for source in sources}
    if kinds == {"clip_l", "clip_g"}:
        return "sd3" if inside == {"text_encoders"} else "sdxl"
    if kinds == {"clip_l"} and inside == {"text_encoders"}:
        raise LayoutError(
            "its CLIP-L goes with a T5 or a language model (Flux, HunyuanVideo), which is not read here; "
            "choose the family sd1 to use CLIP-L alone"
        )
    if kinds == {"clip_g"} and inside == {"text_encoder"}:
        raise LayoutError("it is Stable Cascade's CLIP-G, a family that is not known here; choose a family by hand")
    alone = {"clip_l": "sd1", "clip_h": "sd2", "clip_g": "sdxl_refiner", "custom": "sd1"}
    if len(kinds) == 1:
        return alone[kinds.pop()]
    raise LayoutError(f"no family has just the text encoders {', '.join(sorted(kinds))}; choose one by hand")


def _text_source(shapes: Shapes, root: Root, written: CLIPConfig | None, activation: str | None) -> TextSource:
    table = origins(shapes, root, "text")
    known = _known(shapes, table)
    inferred = infer_text(known, activation) if written is None else Inferred(_changed_text(written.text, activation))
    config, projected = inferred.config, "text_projection.weight" in table
    notes = inferred.notes + inferred.assumed
    if not projected:
        notes += ("no text_projection in the file: the pooled text cannot be projected",)
    made = recipe(shapes, root, table, CLIPText(config, UNFILLED, device="meta"), notes, _text_stand_ins(config, known))
    return TextSource(**vars(made), config=config, family=family_of_text(config), has_projection=projected)


def _clip_source(
    shapes: Shapes, text: Root, image: Root, written: CLIPConfig | None, activation: str | None, heads: int | None
) -> CLIPSource:
    table = origins(shapes, text, "text") | origins(shapes, image, "vision")
    known = _known(shapes, table)
    if written is None:
        halves = infer_text(known, activation), infer_vision(known, activation, heads)
        pair = infer_clip(halves[0].config, halves[1].config, activation)
        notes = halves[0].notes + halves[1].notes + pair.notes + pair.assumed
    else:
        text_config = _changed_text(written.text, activation)
        image_config = _changed_vision(written.vision, activation, heads)
        pair, notes = Inferred(replace(written, text=text_config, vision=image_config)), ()
    root = Root(image.layout, base(image))
    if f"{root.prefix}logit_scale" in shapes:
        table["logit_scale"] = [Origin(f"{root.prefix}logit_scale")]
    else:
        notes += ("no logit_scale in the file: 100 stands in, where the published models are",)
    made = recipe(shapes, root, table, CLIP(pair.config, UNFILLED, device="meta"), notes, ("logit_scale",))
    return CLIPSource(**vars(made), config=pair.config)


def _siglip_source(
    shapes: Shapes, root: Root, written: SigLIPConfig | None, activation: str | None, heads: int | None
) -> CLIPSource:
    table = siglip_origins(shapes, root)
    if written is None:
        config, notes = infer_siglip(_known(shapes, table), activation, heads)
    else:
        act, many = activation or written.vision.activation, heads or written.vision.heads
        vision = replace(written.vision, heads=many, activation=act)
        config, notes = replace(written, text=_changed_text(written.text, activation), vision=vision), ()
    made = recipe(shapes, root, table, network_of(config, UNFILLED, device="meta"), notes, ())
    return CLIPSource(**vars(made), config=config)


def _config_of(metadata: Mapping[str, str] | None, read: Callable[[Mapping[str, str]], Config | None]) -> Config | None:
    """The config that our own training wrote into the header, if any."""
    try:
        return read(metadata or {})
    except ValueError as error:
        raise LayoutError(str(error)) from error


def _changed_text(config: TextConfig, activation: str | None) -> TextConfig:
    return replace(config, activation=activation or config.activation)


def _changed_vision(
    config: VisionConfig | ResNetConfig, activation: str | None, heads: int | None
) -> VisionConfig | ResNetConfig:
    if isinstance(config, ResNetConfig):
        return replace(config, heads=heads or config.heads)
    return replace(config, heads=heads or config.heads, activation=activation or config.activation)


def _known(shapes: Shapes, table: Origins) -> dict[str, tuple[int, ...]]:
    """The shapes under our names."""
    return {target: copies[0].shape(shapes) for target, copies in table.items()}


def _text_stand_ins(config: TextConfig, known: Shapes) -> tuple[str, ...]:
    """The beginnings of names that a text encoder may lack: its projection, and SD2's last block, see `infer_text`."""
    last = f"text_model.encoder.layers.{config.layers - 1}."
    is_h = (config.width, config.layers) == (CLIP_H.width, CLIP_H.layers)
    short = is_h and not any(name.startswith(last) for name in known)
    return ("text_projection.", last) if short else ("text_projection.",)


def _refuse_relatives(shapes: Shapes, found: Collection[Root]) -> None:
    for root in found:
        what = relative_of_clip(name for name in shapes if name.startswith(base(root)))
        if what:
            raise LayoutError(f"it is {what}, whose names are CLIP's in part and whose network is another. {_WANTED}")
