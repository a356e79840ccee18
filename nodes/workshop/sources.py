"""What the workshop works on: the files of a list or a LORA_STACK, and the models that are connected; and the inputs
that several of its nodes have.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...files.errors import FileFormatError
from ...files.folder import whole_of
from ...files.tensors import TensorFile, open_tensors
from ...lora.formats.dialects import DIALECTS
from ...lora.kinds.adapters import LoRAError
from ...lora.models.match import key_of
from ...lora.models.parts import describe_part, describe_parts
from ...lora.workshop.checkpoint import Checkpoint, checkpoint_of
from ...lora.workshop.gathering import Gathered, WeightOf, gather
from ...lora.workshop.outcome import AS_THE_FILES, DTYPES
from ...lora.workshop.ranks import RANK, Rule
from ...lora.workshop.sources import Source
from ..host import host
from ..lora.files import ParsedFile, read_lora
from ..lora.rows import Row, rows_of

_SHOWN = 5
LORAS = (
    "STRING",
    {
        "default": "",
        "multiline": True,
        "cvl_nothing": "",
        "tooltip": "One LoRA a line: name : strength_model : strength_clip : blocks, as LoRA Stack has them. All but "
        "the name may be left out; a line that begins with off or - is off.",
    },
)
STACK = ("LORA_STACK", {"tooltip": "LoRAs of a stack; they come before those of the list."})
MODEL = ("MODEL", {"tooltip": "The diffusion model that they are for, if any: its names are written, and it gives the "
                   "base weights that DoRA, OFT, (IA)^3 and GLoRA need."})  # fmt: skip
CLIP = ("CLIP", {"tooltip": "The text encoder that they are for, if any; as for the model."})


CLIP_MODEL = ("CVL_CLIP_MODEL", {"tooltip": "The whole CLIP that they are for, if any; as for the model."})

AS_IT_IS = "as it is"
_NAMES = {"tooltip": "How names are written. kohya holds every kind, and every tool reads it."}
DIALECT, OWN_OR_DIALECT = (list(DIALECTS), _NAMES), ([AS_IT_IS, *DIALECTS], _NAMES)
DTYPE = (list(DTYPES), {"default": AS_THE_FILES, "tooltip": "The type of the numbers in the file."})


def amount(default: float) -> tuple[str, dict]:
    """The input `amount` of what is cut by a rule."""
    words = {"tooltip": "What keep means: the rank, the share (0 to 1), the ratio, or the size in MB."}
    return "FLOAT", {"default": default, "min": 0.0, "max": 100000.0, "step": 0.01, **words}


def prefix(default: str) -> tuple[str, dict]:
    """The input `filename_prefix` of what writes a file."""
    return "STRING", {"default": default, "tooltip": "Folder and beginning of the name in the output folder."}


@dataclass(frozen=True)
class Base:
    """The connected models as one: their shapes by key, None without any, and what gives a weight."""

    shapes: Mapping[str, Sequence[int]] | None
    weight_of: WeightOf | None


@dataclass(frozen=True)
class Files:
    """The files of a node: as sources at their strengths, and as they were read, for the node to keep."""

    sources: tuple[Source, ...]
    parsed: tuple[ParsedFile, ...]


def base_of(*targets: object) -> Base:
    """The connected ones of these targets (MODEL, CLIP) as one base."""
    connected = [target for target in targets if target is not None]
    if not connected:
        return Base(None, None)
    shapes: dict[str, Sequence[int]] = {}
    owners: dict[str, object] = {}
    for target in connected:
        own = host.weights(target)
        shapes |= own
        owners |= dict.fromkeys(own, target)
    return Base(shapes, lambda key: host.base_weight(owners[key], key))


@contextmanager
def open_checkpoint(path: Path) -> Iterator[tuple[TensorFile, Checkpoint, Base]]:
    """A checkpoint, a diffusion model or a text encoder, open as long as it is used: its file, its weights by their
    keys, and these as a base of which one is read at a time. Of a model in parts all of them, whichever is given.

    Raises:
        FileFormatError: it cannot be read, or is no model.
    """
    with open_tensors(whole_of(path)) as file:
        floats = {name: shape for name, shape in file.shapes.items() if file.dtypes[name].is_floating_point}
        try:
            found = checkpoint_of(floats)
        except LoRAError as error:
            raise FileFormatError(path, str(error)) from error

        def weight_of(key: str):
            spot = found.spots[key]
            return spot.of(file.read([spot.name])[spot.name])

        yield file, found, Base(found.shapes, weight_of)


def files_of(text: str, lora_stack: object = None) -> Files:
    """The files that a list and a LORA_STACK ask for, read.

    Raises:
        ValueError: a line cannot be followed, a file cannot be read, or none is asked for.
    """
    return read_rows([row for row in rows_of(text, lora_stack) if row.on])


def read_rows(rows: Sequence[Row]) -> Files:
    """The files of rows that are on.

    Raises:
        ValueError: as `files_of`.
    """
    if wrong := next((row for row in rows if row.problem), None):
        raise ValueError(f"{wrong.place}: {wrong.problem}")
    found = [row for row in rows if row.request]
    if not found:
        raise ValueError("no LoRA is chosen: write the name of one on each line of loras, or connect a lora_stack")
    parsed = [read_lora(row.request.path) for row in found if row.request]
    sources = [
        source_of(one, row.choice, row.request.strengths["model"], row.request.strengths["clip"], row.request.blocks)
        for row, one in zip(found, parsed)
        if row.request
    ]
    return Files(tuple(sources), tuple(parsed))


def source_of(
    parsed: ParsedFile, name: str, strength_model: float = 1.0, strength_clip: float = 1.0, blocks: str = ""
) -> Source:
    """A file that was read, at strengths."""
    return Source(name, parsed.file, parsed.metadata, strength_model, strength_clip, blocks)


def laid_out(sources: Sequence[Source], base: Base) -> Gathered:
    """The files side by side; names that come twice are told apart by a number.

    Raises:
        ValueError: they cannot be put together; the sentence says why.
    """
    numbered = [
        one if sum(other.name == one.name for other in sources) == 1 else _numbered(one, n)
        for n, one in enumerate(sources, 1)
    ]
    return gather(numbered, base.shapes, base.weight_of is not None)


def _numbered(source: Source, number: int) -> Source:
    return Source(
        f"{source.name} ({number})",
        source.file,
        source.metadata,
        source.strength_model,
        source.strength_clip,
        source.blocks,
    )


def lost_lines(gathered: Gathered) -> list[str]:
    """The lines about the modules that take no part, by file."""
    lines = []
    for name, lost in gathered.left_out.items():
        lines.append(f"⚠ {name}: left out: {len(lost)} of its parts")
        reasons: dict[str, list[str]] = {}
        for module, why in lost.items():
            reasons.setdefault(why, []).append(module)
        for why, modules in list(reasons.items())[:_SHOWN]:
            more = f" and {len(modules) - 1} more" if len(modules) > 1 else ""
            lines.append(f"  {describe_part(modules[0])}{more}: {describe_parts(why)}")
        if len(reasons) > _SHOWN:
            lines.append(f"  and {len(reasons) - _SHOWN} more reasons, in the report")
    return lines


def size_text(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.3g} MB" if size_bytes < 1e9 else f"{size_bytes / 1e9:.3g} GB"


def check_free(path: Path, parsed: Sequence[ParsedFile]) -> None:
    """Refuse to write over a file that is being read.

    Raises:
        FileFormatError: it is one of them.
    """
    for one in parsed:
        if path.exists() and os.path.samefile(path, one.path):
            raise FileFormatError(path, "it is one of the files that this is made of: choose another name to write to")


def short_lines(rule: Rule | None, ranks: Sequence[int]) -> list[str]:
    """The lines about a rank that is above what weights have, or above the largest one; `ranks`: all they have."""
    if rule is None or rule.name != RANK:
        return []
    lines, short = [], [rank for rank in ranks if rank < rule.amount]
    if rule.most is not None and rule.most < rule.amount:
        lines.append(f"⚠ the rank asked for is {rule.amount:g} and the largest rank {rule.most}: no weight gets more")
    elif short:
        lines.append(
            f"{len(short)} weights have less than rank {rule.amount:g} and keep all they have, "
            f"rank {max(short)} at most"
        )
    return lines


def text_of(place: object) -> str:
    """A place for a report: its key, and the rows where it is not the whole weight."""
    if isinstance(place, str):
        return place
    key, (_, first, rows) = key_of(place), place.rows  # type: ignore[arg-type, attr-defined]
    return f"{key} rows {first} to {first + rows - 1}"
