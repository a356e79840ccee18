"""cvl lora extract: the difference of two models as a LoRA."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ...lora.formats.dialects import DIALECTS
from ...nodes.workshop.extracting import RULES_OF_MODELS, TYPES, ExtractSettings, extract_file, sides
from ..workflow.graph import WorkflowError
from .files import add_output, output_of
from .resize import add_rule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what an extraction asks for."""
    parser.add_argument("tuned", type=Path, metavar="TUNED", help="the tuned checkpoint, model or text encoder")
    parser.add_argument("base", type=Path, metavar="BASE", help="the file that it was made from")
    add_output(parser)
    add_rule(parser, RULES_OF_MODELS, "automatic", 32.0)
    parser.add_argument("--most", type=int, default=128, metavar="RANK", help="no layer gets more (128)")
    parser.add_argument("--dtype", choices=TYPES, default="fp16", help="the type of the numbers (fp16)")
    parser.add_argument("--dialect", choices=list(DIALECTS), default="kohya", help="how names are written (kohya)")
    parser.add_argument(
        "--without-norms", action="store_true", help="list the differences of norms and biases, and do not write them"
    )


def run(options: argparse.Namespace, on_step: Callable[[int, int], None]) -> tuple[list[str], dict]:
    """Extract, and say what was lost."""
    for path in (options.tuned, options.base):
        if not path.exists():
            raise WorkflowError(f"there is no file {path}; give the path of a checkpoint")
    path = output_of(options)
    settings = ExtractSettings(
        options.keep, options.amount, options.most, options.dialect, options.dtype, not options.without_norms
    )
    with sides(options.tuned, options.base, "the tuned model", "the base model") as (tuned, base):
        lines, data, _ = extract_file(tuned, base, settings, path, on_step)
    return lines, data
