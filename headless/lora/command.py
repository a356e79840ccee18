"""cvl lora COMMAND: LoRA files merged, compared, edited, resized, extracted and put into checkpoints, file to file.

A new command is a module here with `add_arguments` and `run`, and a row in `_COMMANDS`. Exit codes: 0 done, 2 wrong
usage or input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import import_module

from ...files.errors import FileFormatError
from ..command import DONE, INTERRUPTED, WRONG, Parser
from ..progress import Progress
from ..report import failed, missing_package
from ..workflow.graph import WorkflowError

_COMMANDS = {
    "merge": ("merge", "make one LoRA file of several: exactly, or by TIES, DARE, DELLA, SLERP, average"),
    "compare": ("compare", "say how alike files are, where they clash, and which strengths suit them; or find copies"),
    "edit": ("edit", "change a file's words, header, strength, alpha, type, dialect or blocks"),
    "resize": ("resize", "make a file smaller: to a rank, a share, a ratio, its rounding noise, or a file size"),
    "extract": ("extract", "make a LoRA of the difference of two models"),
    "bake": ("bake", "put LoRAs into a checkpoint for good"),
}
_DESCRIPTION = """LoRA files of any kind and dialect, file to file. A FILE may be followed by its strengths and blocks
as a loader has them: a.safetensors:0.7, a.safetensors:0.7:0.4, "a.safetensors:1:1:IN07-IN08: 0"."""


def main(arguments: Sequence[str] | None = None, prog: str = "cvl lora") -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in arguments
    try:
        options = _parser(prog).parse_args(arguments)
        progress = Progress(sys.stderr, quiet=options.quiet or as_json)
        progress.node(f"lora {options.command}")
        try:
            lines, data = options.module.run(options, progress.step)
        finally:
            progress.close()
    except (WorkflowError, FileFormatError, ValueError, OSError) as error:
        return failed(error, WRONG, as_json)
    except ModuleNotFoundError as error:
        return failed(missing_package(error), WRONG, as_json)
    except KeyboardInterrupt:
        return failed("interrupted", INTERRUPTED, as_json)
    print(json.dumps({**data, "code": DONE}, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))
    return DONE


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog, description=_DESCRIPTION, epilog="exit codes: 0 done, 2 wrong usage or input, 130 stopped"
    )
    several = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name, (module, what) in _COMMANDS.items():
        own = several.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        found = import_module(f".{module}", __package__)
        found.add_arguments(own)
        own.add_argument("--json", action="store_true", help="print one JSON document")
        own.add_argument("--quiet", action="store_true", help="say nothing of progress")
        own.set_defaults(module=found)
    return parser
