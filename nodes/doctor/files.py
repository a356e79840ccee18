"""Facts about files of weights, from their headers: what is in them, whether they are whole, and what they fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path

from ...doctor.facts import CLIP, LORA, MODEL, OTHER, VAE, Facts, Shape, Text
from ...doctor.models import LORA_KIN, MODELS, texts_of
from ...doctor.spaces import SPACES, spaces_of_vae
from ...doctor.texts import PARTS, TEXTS, read_as
from ...files.errors import FileFormatError
from ...files.tensors import open_tensors
from ...lora.models.families import family_of_keys, tell
from ...vae_core.checkpoint.find import LayoutError, find_vae
from ...vae_core.checkpoint.foreign import other_file
from ..lora.files import read_lora

Shapes = Mapping[str, Sequence[int]]
_LORA = re.compile(r"lora_(?:up|down|[AB])\b|lora\.(?:up|down)\b|hada_w|lokr_|oft_blocks|oft_diag|\.dora_scale$|ia3_l")
_FRONTS = ("model.diffusion_model.", "diffusion_model.", "model.", "")
_NETWORKS = {"kl": "AutoencoderKL", "tiny": "TinyAutoencoder", "wan": "AutoencoderWan"}
_CLIP_TABLE = re.compile(r"(?:^|\.)token_embedding\.weight$")
_T5_TABLE = re.compile(r"(?:^|\.)shared\.weight$")
_LLM_TABLE = re.compile(r"(?:^|\.)embed_tokens\.weight$")
_CLIPS = {64: "small", 768: "clip_l", 1024: "clip_h", 1280: "clip_g"}
_LLMS = {int(part[4:]) for parts in PARTS.values() for part in parts if part.startswith("llm_")}
_MOST_NUMBERS = 10**9


def facts_of_file(path: Path, name: str) -> list[Facts]:
    """Tell what is in a file of weights: a thing for each model in it. Reads the header only, of a LoRA all of it."""
    try:
        with open_tensors(path) as file:
            shapes, dtypes = dict(file.shapes), dict(file.dtypes)
        if any(_LORA.search(key) for key in shapes):
            return [_lora(path, name)]
    except FileFormatError as error:
        return [Facts(OTHER, name, "not whole, or no weights", broken=(error.sentence,))]
    forms = Counter(str(dtype).removeprefix("torch.") for dtype in dtypes.values())
    words = {"size": _size(shapes), "numbers": ", ".join(form for form, _ in forms.most_common(2))}
    found = [
        part for part in (_model(name, shapes, words), _vae(name, shapes, words), _clip(name, shapes, words)) if part
    ]
    return found or [Facts(OTHER, name, other_file(shapes), **words)]


def fitting(one: Facts) -> list[str]:
    """What a thing goes together with, in words."""
    if one.kind == MODEL and one.family in MODELS:
        row = MODELS[one.family]
        text = " or ".join(TEXTS[kind].title for kind in row.texts if kind in TEXTS)
        return [f"the VAE of {SPACES[row.space].title}", *([f"the text encoder {text}"] if text else [])]
    if one.kind == VAE:
        return [family for family, row in MODELS.items() if row.space in one.spaces]
    if one.kind == CLIP and one.text is not None:
        read = {read_as(kind) for kind in one.text.kinds}
        return [family for family, row in MODELS.items() if read & set(row.texts)]
    if one.kind == LORA:
        kin = {other for group in LORA_KIN for family in one.families if family in group for other in group}
        return sorted({*one.families, *kin})
    return []


def _size(shapes: Shapes) -> str:
    total = sum(prod(shape) for shape in shapes.values())
    return f"{total / 1e9:.3g} B" if total >= _MOST_NUMBERS else f"{total / 1e6:.3g} M"


def _lora(path: Path, name: str) -> Facts:
    read = read_lora(path)
    told = tell(read.file)
    kinds = " and ".join(read.file.kinds) or "nothing that is read"
    title = f"LoRA ({kinds}), {len(read.file.adapters)} modules"
    notes = (f"{len(read.file.unread)} of its modules are not read",) if read.file.unread else ()
    size = f"{read.size_bytes / 1e6:.3g} MB"
    return Facts(LORA, name, title, families=told.families if told.sure else (), size=size, notes=notes)


def _model(name: str, shapes: Shapes, words: Mapping[str, str]) -> Facts | None:
    for front in _FRONTS:
        inside = {key[len(front) :]: shape for key, shape in shapes.items() if key.startswith(front)}
        family = family_of_keys({f"diffusion_model.{key}": shape for key, shape in inside.items()})
        if family is not None:
            break
    else:
        return None
    family = _narrowed(family, inside)
    row = MODELS.get(family)
    if row is None:
        return Facts(MODEL, name, family, **words)
    text = Text(texts_of(family, None), needs_pooled=row.needs_pooled) if row.texts else None
    spaces = (row.space, *row.beside)
    return Facts(MODEL, name, family, family, spaces=spaces, shape=SPACES[row.space].shape, text=text, **words)


def _narrowed(family: str, shapes: Shapes) -> str:
    """The family, where another one has the same modules and other sizes."""
    first = shapes.get("patch_embedding.weight", ())
    if family == "Wan" and len(first) > 1 and first[1] == 48:
        return "Wan 2.2 5B"
    if family == "PixArt" and "csize_embedder.mlp.0.weight" in shapes:
        return "PixArt Alpha"
    return "Chroma Radiance" if family == "Chroma" and any("nerf" in key for key in shapes) else family


def _vae(name: str, shapes: Shapes, words: Mapping[str, str]) -> Facts | None:
    try:
        source = find_vae(shapes)
    except LayoutError:
        return None
    network = _NETWORKS.get(source.kind, source.kind)
    shape = Shape(source.config.latent, 3 if source.kind == "wan" else 2, source.config.factor)
    return Facts(VAE, name, network, spaces=spaces_of_vae(network, shape), shape=shape, **words)


def _clip(name: str, shapes: Shapes, words: Mapping[str, str]) -> Facts | None:
    inside = sorted(set(_encoders(shapes)))
    if not inside:
        return None
    kinds = tuple(kind for kind, parts in PARTS.items() if set(inside) <= set(parts))
    titles = " and ".join(_called(encoder) for encoder in inside)
    return Facts(CLIP, name, titles, text=Text(kinds) if kinds else None, **words)


def _called(encoder: str) -> str:
    """A text encoder in words; one in a file may be a part of several kinds."""
    if encoder.startswith("llm_"):
        return f"a language model, {encoder[4:]} wide"
    return {"clip_l": "CLIP-L", "clip_h": "CLIP-H", "clip_g": "CLIP-G"}.get(encoder) or TEXTS[encoder].title


def _encoders(shapes: Shapes) -> Iterator[str]:
    """The text encoders in a file, by the width and the words of their tables."""
    for key, shape in shapes.items():
        if len(shape) != 2:
            continue
        rows, width = shape
        if _CLIP_TABLE.search(key) and width in _CLIPS:
            yield _CLIPS[width]
        elif _T5_TABLE.search(key):
            if rows > 200_000:
                yield "umt5" if width == 4096 else "umt5_base"
            elif width == 1024:
                yield "t5_old"
            elif width in (768, 2048, 4096):
                yield {768: "t5_base", 2048: "pile_t5", 4096: "t5"}[width]
        elif _LLM_TABLE.search(key) and "vision" not in key and width in _LLMS:
            yield f"llm_{width}"
