"""cvl lora compare: files side by side, or the copies in a folder."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ...files.images import write_png
from ...lora.models.places import Place
from ...lora.weights.low_rank import frobenius
from ...nodes.workshop.comparing import compare_files, copies_in
from ...nodes.workshop.sources import Base
from ..workflow.graph import WorkflowError
from .files import add_base, add_files, base_file, read_files

_SUFFIXES = (".safetensors", ".pt", ".ckpt", ".bin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what a comparison asks for."""
    add_files(parser, "LoRAs to compare, with their strengths; or one folder, in which copies are sought")
    add_base(parser)
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the comparison into a picture")


def run(options: argparse.Namespace, on_step: Callable[[int, int], None]) -> tuple[list[str], dict]:
    """Compare, and say what was found."""
    with base_file(options.base) as base:
        if len(options.files) == 1 and Path(options.files[0]).is_dir():
            folder = Path(options.files[0])
            names = sorted(str(path) for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
            if len(names) < 2:
                raise WorkflowError(f"{folder} has {len(names)} files that may be LoRAs: two are needed to be copies")
            return copies_in(lambda name: _named(name), names, base, on_step)
        lines, data, picture = compare_files(read_files(options.files), base, _norms(base), on_step)
        if options.picture is not None and isinstance(picture, Tensor):
            write_png(options.picture, picture[0], {})
            data["picture"] = str(options.picture)
        return lines, data


def _named(name: str):
    files = read_files([name])
    (source,) = files.sources
    return type(files)((type(source)(name, source.file, source.metadata),), files.parsed)


def _norms(base: Base) -> Callable[[Place], float | None] | None:
    """What gives the norm of a weight of the base; None without one."""
    if base.weight_of is None:
        return None
    weight_of = base.weight_of

    def norm_of(place: Place) -> float | None:
        key = place if isinstance(place, str) else place.key
        weight = weight_of(key)
        return frobenius(weight if isinstance(place, str) else weight.narrow(*place.rows))

    return norm_of
