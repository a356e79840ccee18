"""From a file to an object that travels along the wires, with a report of what was read and what was not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..clip_core.checkpoint import find as clip_files
from ..clip_core.config import CLIPConfig, ResNetConfig
from ..clip_core.families import FAMILIES
from ..files.errors import FileFormatError
from ..files.folder import whole_of
from ..files.tensors import TensorFile, open_tensors
from ..vae_core.checkpoint import find as vae_files
from ..vae_core.tiling.network import builder
from . import catalog
from .clip.facts import activation_beside, told_about
from .host import host
from .text import embeddings

FAMILY_NAMES = list(FAMILIES)
_TINY_HALVES = {"_encoder.": "_decoder.", "_decoder.": "_encoder."}


def text_encoder(paths: Sequence[Path], family_name: str, dtype: str) -> tuple[object, list[str], dict]:
    """A CLIP from one or two files; the lines and the data of its report."""
    paths = [whole_of(path) for path in paths]
    found = [(path, source) for path in paths for source in _text_sources(path)]
    if family_name == "auto":
        try:
            family_name = clip_files.family_of([source for _, source in found])
        except clip_files.LayoutError as error:
            raise FileFormatError(paths[0], str(error)) from error
    family = FAMILIES[family_name]
    chosen = [_for_use(use, found, family, paths) for use in family.uses]
    parts = []
    for path, source in chosen:
        with open_tensors(path) as file:
            parts.append((source, source.translate(file.read(source.names))))
    clip = host.make_clip(family, parts, dtype, embeddings.find)
    lines, encoders = [f"family: {family.name}"], []
    for use, (path, source) in zip(family.uses, chosen):
        config = source.config
        lines.append(f"{use.encoder}: {path.name}, {config.layers} layers, width {config.width}")
        lines += source.notes
        encoders.append(
            {
                "encoder": use.encoder,
                "file": path.name,
                "layout": source.layout,
                "prefix": source.prefix,
                "layers": config.layers,
                "width": config.width,
                "activation": config.activation,
                "tensors": len(source.names),
                "notes": list(source.notes),
            }
        )
    unused = [source.family for pair in found for source in pair[1:] if pair not in chosen]
    if unused:
        lines.append(f"also in the file and not used by {family.name}: {', '.join(unused)}")
    return clip, lines, {"family": family.name, "dtype": dtype, "encoders": encoders, "unused": unused}


def _text_sources(path: Path) -> list:
    with open_tensors(path) as file:
        try:
            return clip_files.find_text_encoders(file.shapes, file.metadata, activation_beside(file.path))
        except clip_files.LayoutError as error:
            raise FileFormatError(path, str(error)) from error


def _for_use(use, found, family, paths):
    """The encoder in these files that the family reads in this place."""
    fits = [pair for pair in found if pair[1].family == use.encoder]
    if not fits and len(found) == len(family.uses):
        mine = found[family.uses.index(use)]  # sizes that no published family has: in the order of the files
        fits = [mine] if len(found) == 1 or mine[1].family == "custom" else []
    if not fits:
        there = ", ".join(source.family for _, source in found)
        raise FileFormatError(
            paths[0],
            f"the family {family.name} needs {use.encoder}, and the files chosen hold {there}; "
            "choose the file with it as second_file, or another family",
        )
    return fits[0]


def clip_model(path: Path, activation: str, dtype: str, heads: int = 0) -> tuple[object, list[str], dict]:
    """Both encoders from one file, or from the parts of one. `activation` "auto" and `heads` 0: as told, or by rule."""
    with open_tensors(whole_of(path)) as file:
        told = told_about(file, None if activation == "auto" else activation, heads or None)
        try:
            source = clip_files.find_clip(file.shapes, file.metadata, told.activation, heads=told.heads)
        except clip_files.LayoutError as error:
            raise FileFormatError(file.path, str(error)) from error
        config, notes = told.prepared(source.config), [*source.notes, *told.notes]
        model = host.make_clip_model(config, source.translate(file.read(source.names)), dtype)
        name = file.path.name
    text, seen, vision = config.text, *_vision(config)
    lines = [
        f"{name} ({source.layout})",
        f"text: {text.layers} layers, width {text.width}",
        f"image: {seen}",
        f"{text.embed} dimensions shared, activation {text.activation}",
        *notes,
    ]
    data = {
        "file": name,
        "layout": source.layout,
        "embed": text.embed,
        "activation": text.activation,
        "text": {"layers": text.layers, "width": text.width, "heads": text.heads},
        "notes": notes,
        "vision": vision,
        "preprocess": {"resize": config.resize, "mean": list(config.mean), "std": list(config.std)},
        "tensors": len(source.names),
        "ignored": [*source.ignored, *file.ignored],
    }
    return model, lines, data


def _vision(config: CLIPConfig) -> tuple[str, dict]:
    """The image encoder for the report, as a line and as data."""
    vision = config.vision
    data = {"width": vision.width, "heads": vision.heads, "image_px": vision.image_px}
    pictures = f"{vision.heads} heads, {vision.image_px} px"
    if isinstance(vision, ResNetConfig):
        blocks = ", ".join(map(str, vision.blocks))
        return f"ResNet of {blocks} blocks, width {vision.width}, {pictures}", {"blocks": list(vision.blocks), **data}
    data |= {"layers": vision.layers, "patch_px": vision.patch_px}
    line = f"{vision.layers} layers, width {vision.width}, {pictures} in patches of {vision.patch_px} px"
    return line, data


def vae(path: Path, dtype: str, family: str) -> tuple[object, list[str], dict]:
    """A VAE from one file, or from the two halves of a tiny one."""
    twin = _other_half(path)
    named = vae_files.family_in_name(path.name) if family == "auto" else family
    with open_tensors(path) as file:
        try:
            if twin is None:
                source = vae_files.find_vae(file.shapes, named)
                state = source.translate(file.read(source.names))
            else:
                source, state = _tiny_pair(file, twin, named)
        except vae_files.LayoutError as error:
            raise FileFormatError(path, str(error)) from error
    made = host.make_vae(builder(source), state, dtype)
    config = source.config
    kind = "AutoencoderKL" if source.kind == "kl" else "tiny autoencoder"
    files = [path.name] if twin is None else [path.name, twin.name]
    lines = [
        f"{' + '.join(files)}: {kind} ({source.layout} names)",
        f"{config.latent} latent channels, {config.factor} px per cell",
        *source.notes,
    ]
    data = {
        "files": files,
        "kind": source.kind,
        "layout": source.layout,
        "prefix": source.prefix,
        "dtype": dtype,
        "latent_channels": config.latent,
        "px_per_cell": config.factor,
        "tensors": len(source.names),
        "encoder": source.has_encoder,
        "decoder": source.has_decoder,
        "notes": list(source.notes),
        "ignored": list(source.ignored),
    }
    return made, lines, data


def _other_half(path: Path) -> Path | None:
    """The file beside a NAME_encoder file that is called NAME_decoder, and the other way round."""
    twins = (path.with_name(name) for name in catalog.other_halves(path.name))
    return next((twin for twin in twins if twin.is_file()), None)


def _tiny_pair(file: TensorFile, twin: Path, family: str | None) -> tuple[vae_files.VAESource, dict]:
    with open_tensors(twin) as other:
        encoder, decoder = (file, other) if "_encoder." in file.path.name else (other, file)
        source = vae_files.find_vae(vae_files.join_pair(encoder.shapes, decoder.shapes), family)
        tensors = vae_files.join_pair(encoder.read(encoder.shapes), decoder.read(decoder.shapes))
    return source, source.translate(tensors)
