"""cvl lora merge: one file of several."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ...lora.formats.dialects import DIALECTS
from ...lora.workshop.merging.methods import METHODS, Recipe
from ...lora.workshop.outcome import AS_THE_FILES, DTYPES
from ...nodes.workshop.merging import ALL, RANK_RULES, MergeSettings, merge_files
from .files import add_base, add_files, add_output, base_file, output_of, read_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what a merge asks for."""
    add_files(parser, "a LoRA, with its strengths on the model and the text encoders, and strengths by block")
    add_output(parser)
    add_base(parser)
    parser.add_argument("--method", choices=METHODS, default=METHODS[0], help="how they are put together (sum)")
    parser.add_argument("--keep", choices=RANK_RULES, default=ALL, help="how much of each weight is kept (all)")
    parser.add_argument("--amount", type=float, default=0.0, help="what --keep means: a rank, a share, a ratio, MB")
    parser.add_argument("--dialect", choices=list(DIALECTS), default="kohya", help="how names are written (kohya)")
    parser.add_argument("--dtype", choices=list(DTYPES), default=AS_THE_FILES, help="the type of the numbers")
    parser.add_argument("--words", default="", help="the trigger words to write, with commas between")
    parser.add_argument("--density", type=float, default=0.5, help="of ties, dare, della: the share kept (0.5)")
    parser.add_argument(
        "--spread", type=float, default=0.2, help="of della: how much likelier large entries stay (0.2)"
    )
    parser.add_argument("--position", type=float, default=0.5, help="of slerp: from the first (0) to the second (1)")
    parser.add_argument("--unaligned", action="store_true", help="ties, dare, della on the weights, without KnOTS")
    parser.add_argument("--seed", type=int, default=0, help="which entries dare and della drop")


def run(options: argparse.Namespace, on_step: Callable[[int, int], None]) -> tuple[list[str], dict]:
    """Merge, and say what was merged."""
    recipe = Recipe(
        options.method, options.density, options.spread, options.position, not options.unaligned, options.seed
    )
    settings = MergeSettings(recipe, options.keep, options.amount, options.dialect, options.dtype, options.words)
    path = output_of(options)
    with base_file(options.base) as base:
        return merge_files(read_files(options.files), base, settings, path, on_step)
