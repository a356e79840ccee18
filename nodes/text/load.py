"""Load Text Encoder: one from a file, two from two, or those of a checkpoint, with a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...clip_core.checkpoint import find as clip_files
from ...clip_core.checkpoint.find import TextSource
from ...clip_core.families import FAMILIES, EncoderUse, Family
from ...files.errors import FileFormatError
from ...files.folder import whole_of
from ...files.tensors import open_tensors
from .. import catalog
from ..clip_facts import read_activation
from ..dtypes import DTYPE_TOOLTIP, DTYPES
from ..host import host
from ..host.interface import CLIP
from ..reports import as_json, shown
from . import embeddings
from .token_report import spoken

NONE = "none"
FAMILY_NAMES = list(FAMILIES)
FoundIn = tuple[Path, TextSource]


def load_text_encoder(paths: Sequence[Path], family_name: str, dtype: str) -> tuple[CLIP, list[str], dict]:
    """Load a CLIP from one or two files.

    Returns:
        the CLIP, and the lines and the data of its report.

    Raises:
        FileFormatError: a file cannot be read, or has no encoder for the family.
    """
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
    lines, encoders = [f"text encoder for {family.name}"], []
    for use, (path, source) in zip(family.uses, chosen):
        config = source.config
        lines.append(f"{spoken(use.encoder)} from {path.name}")
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
    unused = [pair[1].family for pair in found if pair not in chosen]
    if unused:
        lines.append(f"also in the file, and not used for {family.name}: {', '.join(map(spoken, unused))}")
    return clip, lines, {"family": family.name, "dtype": dtype, "encoders": encoders, "unused": unused}


def _text_sources(path: Path) -> list[TextSource]:
    """The text encoders in a file."""
    with open_tensors(path) as file:
        try:
            return clip_files.find_text_encoders(file.shapes, file.metadata, read_activation(file.path))
        except clip_files.LayoutError as error:
            raise FileFormatError(path, str(error)) from error


def _for_use(use: EncoderUse, found: Sequence[FoundIn], family: Family, paths: Sequence[Path]) -> FoundIn:
    """Choose the encoder for one use of the family, among those in the files."""
    fits = [pair for pair in found if pair[1].family == use.encoder]
    if not fits and len(found) == len(family.uses):
        mine = found[family.uses.index(use)]  # an encoder of unpublished size is chosen by the order of the files
        fits = [mine] if len(found) == 1 or mine[1].family == "custom" else []
    if not fits:
        there = ", ".join(source.family for _, source in found)
        raise FileFormatError(
            paths[0],
            f"the family {family.name} needs {use.encoder}, and the files chosen hold {there}; "
            "choose the file with it as second_file, or another family",
        )
    return fits[0]


class LoadTextEncoder:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Loads the CLIP text encoder of SD1, SD2, SDXL or SD3 from a text encoder file or out of a whole checkpoint, "
        "reading only the tensors it needs, and says what it found. Stock nodes take its CLIP."
    )
    SEARCH_ALIASES = [
        "CLIPLoader",
        "load clip",
        "clip loader",
        "DualCLIPLoader",
        "dual clip",
        "text encoder",
        "text encoder loader",
        "clip_l",
        "clip_g",
        "CLIP from checkpoint",
        "checkpoint text encoder",
    ]
    RETURN_TYPES = ("CLIP", "STRING")
    RETURN_NAMES = ("clip", "report")
    OUTPUT_TOOLTIPS = (
        "The text encoder, for any node that takes a CLIP.",
        "What was read, as JSON: encoders, sizes, layouts, encoders not used.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        files = catalog.choices("text_encoder")
        return {
            "required": {
                "file": (
                    files,
                    {
                        "tooltip": "A file with a CLIP text encoder, or a checkpoint that contains one. bundled/ is "
                        "the small one that comes with the pack, for a try."
                    },
                ),
            },
            "optional": {
                "second_file": (
                    [NONE, *files],
                    {"tooltip": "The other encoder where a family has two in two files (SDXL, SD3: clip_l, clip_g)."},
                ),
                "family": (
                    ["auto", *FAMILY_NAMES],
                    {
                        "advanced": True,
                        "tooltip": "Which model's way of reading the encoder to use (layer, norm, pooling, padding). "
                        "auto: told from what the files hold.",
                    },
                ),
                "dtype": (DTYPES, {"advanced": True, "tooltip": DTYPE_TOOLTIP}),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file, second_file=NONE, **_):
        return [catalog.fingerprint("text_encoder", name) for name in (file, second_file)]

    def load(self, file, second_file=NONE, family="auto", dtype="auto"):
        names = [file] if second_file == NONE else [file, second_file]
        clip, lines, data = load_text_encoder([catalog.path("text_encoder", name) for name in names], family, dtype)
        return shown(lines, data, (clip, as_json(data)))


NODES = {"CVL_LoadTextEncoder": (LoadTextEncoder, "Load Text Encoder (CVL)")}
