"""The command line of run.py and `cvl run`: arguments, what is printed, exit codes.

Exit codes: 0 done, 1 a node failed, 2 wrong usage, workflow or input, 3 server unreachable or refusing,
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ..files.errors import FileFormatError
from ..files.writing import check_writable, remove_abandoned
from .batch_options import add_batch_options
from .progress import Progress
from .remote.errors import Interrupted, ServerError
from .report import Report, missing_package, one_line
from .server_options import add_server_options, wanted_server, wanted_servers
from .workflow.folders import Folders, folders_of
from .workflow.graph import NodeFailure, Prompt, WorkflowError
from .workflow.opening import read_workflow

DONE, FAILED, WRONG, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
_DESCRIPTION = """Runs a ComfyUI workflow (what the canvas saves, or its API format): in this process when it needs
only the nodes of this pack and simple stock nodes, or on a running ComfyUI with --server."""
_EXIT_CODES = """exit codes: 0 done, 1 a node failed, 2 wrong usage, workflow or input, 3 server unreachable or
refusing, 130 interrupted"""


class Parser(argparse.ArgumentParser):
    """Wrong usage in one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        raise WorkflowError(f"{message}; see --help")


def main(arguments: Sequence[str] | None = None, prog: str = "run.py") -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    report = Report(as_json="--json" in arguments)
    try:
        _run(_parser(prog).parse_args(arguments), report)
        report.done()
        return DONE
    except NodeFailure as error:
        return _say(report, error, FAILED, arguments)
    except (WorkflowError, FileFormatError) as error:
        return _say(report, error, WRONG, arguments)
    except ServerError as error:
        return _say(report, error, UNREACHABLE, arguments)
    except ModuleNotFoundError as error:
        return _say(report, missing_package(error), WRONG, arguments)
    except (KeyboardInterrupt, Interrupted) as error:
        return _say(report, str(error) or "interrupted", INTERRUPTED, arguments)
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        sys.stdout = open(os.devnull, "w")
        return DONE


def add_settings(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds --set, which does `what` to an input of a workflow."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        dest="settings",
        help=f"{what}; the node by id, title or class; can be given several times",
    )


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(prog=prog, description=_DESCRIPTION, epilog=_EXIT_CODES)
    parser.add_argument(
        "workflow", type=Path, metavar="WORKFLOW.json", help="canvas JSON, API JSON, or a PNG or WebP that carries one"
    )
    add_settings(parser, "change an input")
    add_server_options(parser)
    add_batch_options(parser)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output"),
        metavar="FOLDER",
        help="where pictures and other files go (default: output/; previews into its temp/)",
    )
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FOLDER",
        help="where LoadImage and the like find files; then the workflow's own folder and input/ in it",
    )
    parser.add_argument(
        "--models",
        type=Path,
        metavar="FOLDER",
        help="a models folder as ComfyUI has it (loras/, vae/, ...); without --server only",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document: outputs, images, seconds; error and code if it failed",
    )
    parser.add_argument(
        "--print-api", action="store_true", help="print the workflow in API format as it would be sent; run nothing"
    )
    parser.add_argument("--verbose", action="store_true", help="show where in the code an error came from")
    return parser


def _run(options: argparse.Namespace, report: Report) -> None:
    report.as_json = options.json
    document = read_workflow(options.workflow)
    if options.input is not None and not options.input.is_dir():
        raise WorkflowError(f"--input {options.input} is no folder")
    if options.models is not None and (options.servers or not options.models.is_dir()):
        raise WorkflowError(
            f"--models {options.models} "
            + ("is for runs in this process: a server has its own models" if options.servers else "is no folder")
        )
    check_writable(options.output)
    remove_abandoned(options.output)
    folders = folders_of(options.workflow, options.output, options.input, options.models)
    progress = Progress(sys.stderr)
    notes: list[str] = []
    try:
        if options.print_api:
            report.api(_api(options, document, folders, notes))
            return
        if options.batch is not None or options.vary:
            _batch(options, document, folders, progress, notes, report)
            return
        for found in _shown(options, document, folders, progress, notes):
            report.node(*found)
    finally:
        progress.close()
        for note in notes:
            print(f"note: {one_line(note)}", file=sys.stderr)


def _batch(
    options: argparse.Namespace,
    document: Mapping,
    folders: Folders,
    progress: Progress,
    notes: list[str],
    report: Report,
) -> None:
    """Run the many jobs of --batch and --vary."""
    from .batch.many import Many, run_many
    from .batch.rows import read_rows, varied
    from .remote.address import read_address

    rows = varied(read_rows(options.batch) if options.batch is not None else (), options.vary)
    gone = frozenset(read_address(text).url for text in options.gone)
    many = Many(document, tuple(options.settings), rows, folders, wanted_servers(options), options.ahead, gone)
    run_many(many, progress, notes, report.jobs)


def _shown(
    options: argparse.Namespace, document: Mapping, folders: Folders, progress: Progress, notes: list[str]
) -> Iterator[tuple[str, str, Mapping, list[Path]]]:
    """Run the workflow here or on the server; what its nodes show."""
    server = wanted_server(options)
    if server is None:
        from .workflow.embedded import run_here

        return run_here(document, options.settings, folders, progress, notes)
    from .remote.remote import run_there

    return run_there(server, document, options.settings, folders, progress, notes)


def _api(options: argparse.Namespace, document: Mapping, folders: Folders, notes: list[str]) -> Prompt:
    """The workflow in API format as it would run; runs nothing."""
    if options.batch is not None or options.vary:
        raise WorkflowError("--print-api prints one job; give its values with --set, not with --batch or --vary")
    server = wanted_server(options)
    if server is None:
        from .workflow.embedded import api_here

        return api_here(document, options.settings, folders, notes)
    from .remote.remote import api_there

    return api_there(server, document, options.settings, notes)


def _say(report: Report, error: object, code: int, arguments: Sequence[str]) -> int:
    report.failed(error, code)
    if "--verbose" in arguments:
        traceback.print_exc()
    return code
