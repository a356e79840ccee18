"""The options that make many jobs of one workflow."""

from __future__ import annotations

import argparse
from pathlib import Path

AHEAD = 3


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """Add --batch, --vary, --ahead and --gone."""
    parser.add_argument(
        "--batch",
        type=Path,
        metavar="FILE",
        help='run one job for each row: JSON lines such as {"3.seed": 7, "Prompt.text": "a cat"}, or CSV whose first '
        "line names node.input; the same command goes on where it ended, and does nothing twice",
    )
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="NODE.INPUT=A,B,C",
        help="run one job for each value; given several times, or with --batch, for each combination",
    )
    parser.add_argument(
        "--ahead", type=_count, default=AHEAD, metavar="N", help=f"jobs that each server has at once (default: {AHEAD})"
    )
    parser.add_argument(
        "--gone",
        action="append",
        default=[],
        metavar="URL",
        help="a server of an earlier run that will not come back: the jobs sent to it that are not done are run on the "
        "others; can be given several times",
    )


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of jobs from 1 to 1000")
    return int(text)
