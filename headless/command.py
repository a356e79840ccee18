"""The command line of run.py: arguments, what is printed, exit codes.

Exit codes: 0 done, 1 a node failed, 2 wrong usage, workflow or input, 3 server unreachable or refusing,
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..files.errors import FileFormatError
from .progress import Progress
from .remote.server import Interrupted, ServerError, server_url
from .workflow.folders import Folders
from .workflow.graph import NodeFailure, WorkflowError
from .workflow.opening import read_workflow

DONE, FAILED, WRONG, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
_DESCRIPTION = """Runs a ComfyUI workflow (what the canvas saves, or its API format): in this process when it needs
only the nodes of this pack and simple stock nodes, or on a running ComfyUI with --server."""
_EXIT_CODES = """exit codes: 0 done, 1 a node failed, 2 wrong usage, workflow or input, 3 server unreachable or
refusing, 130 interrupted"""


class _Parser(argparse.ArgumentParser):
    """Wrong usage in one line, like every other error."""

    def error(self, message: str) -> None:
        raise WorkflowError(f"{message}; see --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _run(_parser().parse_args(arguments))
        return DONE
    except NodeFailure as error:
        return _say(error, FAILED, arguments)
    except (WorkflowError, FileFormatError) as error:
        return _say(error, WRONG, arguments)
    except ServerError as error:
        return _say(error, UNREACHABLE, arguments)
    except ModuleNotFoundError as error:
        return _say(f"the Python package {error.name} is missing; run pip install {error.name}", WRONG, arguments)
    except (KeyboardInterrupt, Interrupted) as error:
        return _say(str(error) or "interrupted", INTERRUPTED, arguments)
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        sys.stdout = open(os.devnull, "w")
        return DONE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="run.py", description=_DESCRIPTION, epilog=_EXIT_CODES)
    parser.add_argument(
        "workflow", type=Path, metavar="WORKFLOW.json", help="canvas JSON, API JSON, or a PNG or WebP that carries one"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        dest="settings",
        help="change an input; the node by id, title or class; can be given several times",
    )
    parser.add_argument("--server", metavar="URL", help="run on this ComfyUI, http://127.0.0.1:8188 for example")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output"),
        metavar="FOLDER",
        help="where pictures go (default: output/; previews into its temp/)",
    )
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FOLDER",
        help="where LoadImage finds pictures; then the workflow's own folder and input/ in it",
    )
    parser.add_argument(
        "--models",
        type=Path,
        metavar="FOLDER",
        help="a models folder as ComfyUI has it (loras/, vae/, ...); without --server only",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document: outputs, images, seconds")
    parser.add_argument(
        "--print-api", action="store_true", help="print the workflow in API format as it would be sent; run nothing"
    )
    parser.add_argument("--verbose", action="store_true", help="show where in the code an error came from")
    return parser


def _run(options: argparse.Namespace) -> None:
    begin = time.perf_counter()
    document = read_workflow(options.workflow)
    if options.input is not None and not options.input.is_dir():
        raise WorkflowError(f"--input {options.input} is no folder")
    if options.models is not None and (options.server or not options.models.is_dir()):
        raise WorkflowError(
            f"--models {options.models} "
            + ("is for runs in this process: a server has its own models" if options.server else "is no folder")
        )
    own = options.workflow.absolute().parent
    inputs = tuple(dict.fromkeys([*([options.input.absolute()] if options.input else []), own, own / "input"]))
    folders = Folders(Path(os.path.abspath(options.output)), inputs, models=options.models)
    progress = Progress(sys.stderr)
    notes: list[str] = []
    try:
        if options.print_api:
            _print_api(options, document, folders, notes)
            return
        if options.server is None:
            from .workflow.embedded import run_here

            shown = run_here(document, options.settings, folders, progress, notes)
        else:
            from .remote.remote import run_there

            shown = run_there(server_url(options.server), document, options.settings, folders, progress, notes)
        _show(shown, begin, as_json=options.json)
    finally:
        progress.close()
        for note in notes:
            print(f"note: {_line(note)}", file=sys.stderr)


def _print_api(options: argparse.Namespace, document: Mapping, folders: Folders, notes: list[str]) -> None:
    """Print the workflow in API format as it would run, and run nothing."""
    if options.server is None:
        from .workflow.embedded import api_here

        prompt = api_here(document, options.settings, folders, notes)
    else:
        from .remote.remote import api_there

        prompt = api_there(server_url(options.server), document, options.settings, notes)
    print(json.dumps(prompt, indent=2, ensure_ascii=False))


def _show(shown: Iterable[tuple[str, str, Mapping, list[Path]]], begin: float, *, as_json: bool) -> None:
    """Print what the nodes show, each as soon as it is there; or all of it as JSON at the end."""
    outputs, images = {}, []
    for node, name, ui, paths in shown:
        outputs[node] = ui
        images += [str(path) for path in paths]
        if not as_json:
            print("\n".join(_block(name, ui, paths)), flush=True)
    seconds = round(time.perf_counter() - begin, 3)
    if as_json:
        print(
            json.dumps(
                {"outputs": outputs, "images": images, "seconds": seconds}, indent=2, ensure_ascii=False, default=str
            )
        )
    else:
        print(f"done in {seconds:.1f} s", flush=True)


def _block(name: str, ui: Mapping, paths: list[Path]) -> list[str]:
    """A node's name, its texts, its pictures."""
    lines = [name]
    texts = ui.get("text") or ()
    for text in [texts] if isinstance(texts, str) else texts:
        lines += [f"  {line}" for line in str(text).splitlines()]
    return lines + [f"  {_near(path)}" for path in paths]


def _near(path: Path) -> str:
    """The path from here where that is shorter."""
    here = Path.cwd().resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _line(text: object) -> str:
    return " ".join(str(text).split())


def _say(error: object, code: int, arguments: Sequence[str]) -> int:
    print(f"error: {_line(error)}", file=sys.stderr)
    if "--verbose" in arguments:
        traceback.print_exc()
    return code
