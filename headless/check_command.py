"""cvl check WORKFLOW [--server URL]: what is wrong with a workflow, all of it, without a run.

Exit codes: 0 nothing is wrong, 2 something is, 3 server unreachable.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files.errors import FileFormatError
from .command import DONE, INTERRUPTED, UNREACHABLE, WRONG, Parser, add_settings
from .remote.errors import ServerError
from .report import failed, missing_package, one_line
from .server_options import add_server_options, wanted_server
from .workflow.folders import Folders, folders_of
from .workflow.graph import WorkflowError
from .workflow.opening import read_workflow
from .workflow.problems import Checked

_DESCRIPTION = """Names everything that is wrong with a workflow before it runs: nodes and models that are missing, with
the nearest names, links and values of a wrong type, values out of range. With --server it asks that ComfyUI; without,
the nodes of this pack and simple stock nodes are checked."""


def main(arguments: Sequence[str] | None = None, prog: str = "cvl check") -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in arguments
    try:
        found = _checked(_parser(prog).parse_args(arguments))
    except (WorkflowError, FileFormatError) as error:
        return failed(error, WRONG, as_json, problems=[])
    except ServerError as error:
        return failed(error, UNREACHABLE, as_json, problems=[])
    except ModuleNotFoundError as error:
        return failed(missing_package(error), WRONG, as_json, problems=[])
    except KeyboardInterrupt:
        return failed("interrupted", INTERRUPTED, as_json, problems=[])
    if as_json:
        print(json.dumps(_document(found), indent=2, ensure_ascii=False))
    else:
        print("\n".join([*(f"{one.kind}: {one_line(one.message)}" for one in found.problems), _sum(found)]))
    for note in found.notes:
        print(f"note: {one_line(note)}", file=sys.stderr)
    return WRONG if found.problems else DONE


def check_here(document: Mapping, settings: Sequence[str], folders: Folders) -> Checked:
    """Check a workflow against the nodes of this process."""
    from .progress import Progress
    from .workflow.embedded import own_specs
    from .workflow.problems import check

    return check(document, settings, own_specs(folders, Progress(sys.stderr, quiet=True)), folders, whole=False)


async def check_there(client, document: Mapping, settings: Sequence[str], folders: Folders) -> Checked:
    """Check a workflow against what a server has.

    Raises:
        ServerError.
    """
    from .remote.remote import class_specs
    from .workflow.problems import check

    specs = await class_specs(client, document)
    return check(document, settings, specs.get, folders, whole=True)


def _checked(options: argparse.Namespace) -> Checked:
    document = read_workflow(options.workflow)
    folders = folders_of(options.workflow, Path("output"), options.input, options.models)
    server = wanted_server(options)
    if server is None:
        return check_here(document, options.settings, folders)
    from .remote.client import Client

    async def ask() -> Checked:
        async with Client(server.address, timing=server.timing) as client:
            return await check_there(client, document, options.settings, folders)

    return asyncio.run(ask())


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(prog=prog, description=_DESCRIPTION, epilog="exit codes: 0 right, 2 wrong, 3 no server")
    parser.add_argument("workflow", type=Path, metavar="WORKFLOW", help="canvas JSON, API JSON, a PNG or WebP with one")
    add_settings(parser, "check it with this input changed")
    add_server_options(parser)
    parser.add_argument("--input", type=Path, metavar="FOLDER", help="where LoadImage and the like find files")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="a models folder; without --server only")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _document(found: Checked) -> dict[str, object]:
    problems = [one.document() for one in found.problems]
    return {"problems": problems, "notes": list(found.notes), "nodes": found.nodes}


def _sum(found: Checked) -> str:
    count = len(found.problems)
    return f"{found.nodes} nodes: " + (f"{count} problem{'s' * (count != 1)}" if count else "nothing is wrong")
