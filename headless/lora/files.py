"""Files on the command line: LoRAs with their strengths, the base model, and where the result goes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...nodes.lora.files import read_lora
from ...nodes.workshop.sources import Base, Files, open_checkpoint, source_of
from ..workflow.graph import WorkflowError


def add_files(parser: argparse.ArgumentParser, what: str, *, some: str = "+") -> None:
    """Adds the LoRA files, each with its strengths."""
    parser.add_argument("files", nargs=some, metavar="FILE[:MODEL[:CLIP[:BLOCKS]]]", help=what)


def add_base(parser: argparse.ArgumentParser) -> None:
    """Adds --base, the checkpoint whose names and weights are used."""
    parser.add_argument(
        "--base",
        type=Path,
        metavar="CHECKPOINT",
        help="the model that the files are for: its names, and the weights that DoRA, OFT, (IA)^3 and GLoRA need",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds --output, and --overwrite."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .safetensors to write")
    parser.add_argument("--overwrite", action="store_true", help="write over a file that is there")


def output_of(options: argparse.Namespace) -> Path:
    """Where the result goes.

    Raises:
        WorkflowError: there is a file already, the folder is missing, or it would be no .safetensors.
    """
    path: Path = options.output
    if path.suffix != ".safetensors":
        raise WorkflowError(f"{path.name} would be a safetensors file: give it a name that ends in .safetensors")
    if path.exists() and not options.overwrite:
        raise WorkflowError(f"{path} is there already: choose another name, or say --overwrite")
    if not path.parent.is_dir():
        raise WorkflowError(f"there is no folder {path.parent}: make it, or choose another place")
    return path


def read_files(written: Sequence[str]) -> Files:
    """The LoRA files, read, at their strengths.

    Raises:
        WorkflowError: a file that is not there, or strengths that are no numbers. FileFormatError: it is no LoRA.
    """
    sources, parsed = [], []
    for text in written:
        path, strengths, blocks = split(text)
        found = read_lora(path)
        parsed.append(found)
        sources.append(source_of(found, path.name, *strengths, blocks))
    return Files(tuple(sources), tuple(parsed))


def split(text: str) -> tuple[Path, tuple[float, float], str]:
    """A file with its strengths on the model and the text encoders, and its blocks. Its name may have colons itself.

    Raises:
        WorkflowError: there is no such file, or a strength is no number.
    """
    parts = text.split(":")
    for count in range(len(parts), 0, -1):
        path = Path(":".join(parts[:count]))
        if path.is_file():
            break
    else:
        raise WorkflowError(f"there is no file {text}; give the path of a LoRA, and behind colons its strengths")
    more = parts[count:]
    numbers = []
    for part in map(str.strip, more[:2]):
        try:
            numbers.append(float(part) if part else 1.0)
        except ValueError as error:
            raise WorkflowError(f"the strength {part[:40]!r} of {path.name} is no number") from error
    strength = numbers[0] if numbers else 1.0
    return path, (strength, numbers[1] if len(numbers) > 1 else strength), ":".join(more[2:]).strip()


@contextmanager
def base_file(path: Path | None) -> Iterator[Base]:
    """The checkpoint of --base as a base, open as long as it is used.

    Raises:
        FileFormatError: it cannot be read, or is no checkpoint.
    """
    if path is None:
        yield Base(None, None)
        return
    if not path.exists():
        raise WorkflowError(f"there is no file {path}; give the checkpoint that the files are for")
    with open_checkpoint(path) as (_, _, base):
        yield base
