"""cvl lora bake: LoRAs in a checkpoint for good, in one file or in as many parts as the checkpoint has."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ...files.folder import index_path
from ...nodes.workshop.baking import bake_files
from ..workflow.graph import WorkflowError
from .files import add_files, add_output, output_of, read_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what baking asks for."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the file that they go into; it stays")
    add_files(parser, "a LoRA, with its strengths on the model and the text encoders, and strengths by block")
    add_output(parser)


def run(options: argparse.Namespace, on_step: Callable[[int, int], None]) -> tuple[list[str], dict]:
    """Bake, and say what was changed."""
    if not options.checkpoint.exists():
        raise WorkflowError(f"there is no file {options.checkpoint}; give the path of a checkpoint")
    path = output_of(options)
    index = index_path(path)  # of a checkpoint in parts
    if index.exists() and not options.overwrite:
        raise WorkflowError(f"{index} is there already: choose another name, or say --overwrite")
    return bake_files(read_files(options.files), options.checkpoint, path, on_step)
