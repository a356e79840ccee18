"""cvl lora edit: a changed copy of a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ...files.images import address_of
from ...files.pictures import small_jpeg
from ...lora.formats.dialects import DIALECTS
from ...lora.workshop.editing.header import HeaderEdit
from ...lora.workshop.outcome import AS_THE_FILES, DTYPES
from ...nodes.lora.files import read_lora
from ...nodes.workshop.editing import EditSettings, edit_file
from ...nodes.workshop.sources import AS_IT_IS, check_free
from ..workflow.graph import WorkflowError
from .files import add_base, add_output, base_file, output_of

_THUMBNAIL_PX = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what an edit asks for."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the LoRA to change; it stays as it is")
    add_output(parser)
    add_base(parser)
    parser.add_argument("--words", help="the trigger words, with commas between; an empty text removes them")
    parser.add_argument("--title", help="the title; an empty text removes it")
    parser.add_argument("--thumbnail", type=Path, metavar="PICTURE", help="the picture that programs show for it")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=TEXT", dest="entries", help="an entry of the header"
    )
    parser.add_argument(
        "--remove", action="append", default=[], metavar="NAME", help="an entry of the header to remove"
    )
    parser.add_argument("--strength", type=float, default=1.0, help="what 1 in the new file is in the old one (1)")
    parser.add_argument("--alpha", type=float, default=0.0, help="the alpha to write; the change stays")
    parser.add_argument("--dtype", choices=list(DTYPES), default=AS_THE_FILES, help="the type of the numbers")
    parser.add_argument("--dialect", choices=[AS_IT_IS, *DIALECTS], default=AS_IT_IS, help="how names are written")
    parser.add_argument("--keep", default="", metavar="BLOCKS", help="the blocks that stay, such as IN07-IN08, attn2")
    parser.add_argument("--drop", default="", metavar="BLOCKS", help="the blocks that go, such as text")


def run(options: argparse.Namespace, on_step: Callable[[int, int], None]) -> tuple[list[str], dict]:
    """Edit, and say what was changed."""
    if not options.file.exists():
        raise WorkflowError(f"there is no file {options.file}; give the path of a LoRA")
    path = output_of(options)
    entries = {}
    for written in options.entries:
        name, mark, text = written.partition("=")
        if not mark or not name.strip():
            raise WorkflowError(f"an entry of the header is written NAME=TEXT, but {written[:80]!r} came")
        entries[name.strip()] = text
    thumbnail = None if options.thumbnail is None else address_of(small_jpeg(options.thumbnail, _THUMBNAIL_PX))
    words = None if options.words is None else [options.words]
    header = HeaderEdit(entries, options.remove, words, options.title, thumbnail)
    settings = EditSettings(
        header, options.strength, options.alpha, options.dtype, options.dialect, options.keep, options.drop
    )
    parsed = read_lora(options.file)
    check_free(path, [parsed])
    with base_file(options.base) as base:
        answer = edit_file(parsed, base, settings, path)
    on_step(1, 1)
    return answer
