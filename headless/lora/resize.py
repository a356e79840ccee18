"""cvl lora resize: a smaller copy of a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ...lora.formats.dialects import DIALECTS
from ...lora.workshop.outcome import AS_THE_FILES, DTYPES
from ...lora.workshop.ranks import RANK, RULES
from ...nodes.lora.files import read_lora
from ...nodes.workshop.resizing import ResizeSettings, resize_file
from ...nodes.workshop.sources import AS_IT_IS, check_free
from ..workflow.graph import WorkflowError
from .files import add_base, add_output, base_file, output_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what a resizing asks for."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the LoRA to make smaller; it stays as it is")
    add_output(parser)
    add_base(parser)
    add_rule(parser, list(RULES), RANK, 16.0)
    parser.add_argument("--most", type=int, default=0, metavar="RANK", help="no layer gets more; 0: no bound (0)")
    parser.add_argument("--dtype", choices=list(DTYPES), default=AS_THE_FILES, help="the type of the numbers")
    parser.add_argument("--dialect", choices=[AS_IT_IS, *DIALECTS], default=AS_IT_IS, help="how names are written")


def add_rule(parser: argparse.ArgumentParser, rules: list[str], rule: str, amount: float) -> None:
    """Adds --keep and --amount."""
    told = "; ".join(f"{name}: {RULES[name]}" for name in rules)
    parser.add_argument("--keep", choices=rules, default=rule, help=f"what the amount is. {told} ({rule})")
    parser.add_argument("--amount", type=float, default=amount, help=f"how much is kept ({amount:g})")


def run(options: argparse.Namespace, on_step: Callable[[int, int], None]) -> tuple[list[str], dict]:
    """Resize, and say what was lost."""
    if not options.file.exists():
        raise WorkflowError(f"there is no file {options.file}; give the path of a LoRA")
    path = output_of(options)
    settings = ResizeSettings(options.keep, options.amount, options.dialect, options.dtype, options.most)
    parsed = read_lora(options.file)
    check_free(path, [parsed])
    with base_file(options.base) as base:
        lines, data, _ = resize_file(parsed, base, settings, path, on_step)
    return lines, data
