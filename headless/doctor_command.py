"""cvl doctor FILE...: what a file of weights is, whether it is whole, what it fits, and what of several does not fit.

Exit codes: 0 all are whole and fit, 1 some do not fit one another, 2 a file is damaged, missing or not known.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..files.errors import FileFormatError
from .command import DONE, FAILED, INTERRUPTED, WRONG, Parser
from .report import failed, missing_package, one_line
from .workflow.graph import WorkflowError

_DESCRIPTION = """Says of each file of weights what it is (a diffusion model and its family, a VAE, a text encoder, a
LoRA, several of them), whether it is whole, and what it goes together with; and of several files which do not go
together. Only headers are read, of a LoRA all of it."""


def main(arguments: Sequence[str] | None = None, prog: str = "cvl doctor") -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in arguments
    try:
        document, code = examine(_parser(prog).parse_args(arguments).files)
    except (WorkflowError, FileFormatError) as error:
        return failed(error, WRONG, as_json, things=[])
    except ModuleNotFoundError as error:
        return failed(missing_package(error), WRONG, as_json, things=[])
    except KeyboardInterrupt:
        return failed("interrupted", INTERRUPTED, as_json, things=[])
    print(json.dumps(document, indent=2, ensure_ascii=False) if as_json else "\n".join(_lines(document)))
    return code


def examine(files: Sequence[Path]) -> tuple[dict, int]:
    """Look at files of weights. Returns the document that --json prints, and the exit code.

    Raises:
        WorkflowError: a file is not there.
    """
    from ..doctor.facts import OTHER
    from ..doctor.fits import judge
    from ..nodes.doctor.files import facts_of_file, fitting
    from ..nodes.doctor.report import data_of, things_of

    missing = [path for path in files if not path.exists()]
    if missing:
        raise WorkflowError(f"there is no file {missing[0]}; give the path of a file of weights, or of its folder")
    by_file = {str(path): facts_of_file(path, str(path)) for path in files}
    things = [one for found in by_file.values() for one in found]
    apart = [finding for finding in judge(things) if len(set(finding.between)) == len(finding.between)]
    data = data_of(things, apart)
    more = [{"whole": not one.broken, "goes_with": fitting(one)} for one in things]
    told = [thing | extra for thing, extra in zip(things_of(things), more, strict=True)]
    unknown = any(one.kind == OTHER for one in things)
    code = WRONG if unknown else FAILED if any(one.misfit for one in apart) else DONE
    return {**data, "things": told, "code": code}, code


def _lines(document: dict) -> list[str]:
    lines = []
    for thing in document["things"]:
        family = f" ({', '.join(thing['made_for'])})" if thing["made_for"] else ""
        kind = "" if thing["kind"] == "other" else f"{thing['kind']}, "
        words = [f"{kind}{thing['title']}{family}", thing["size"], thing["stored_as"]]
        lines.append(f"{thing['name']}: {', '.join(filter(None, words))}")
        if thing["goes_with"]:
            lines.append(f"  goes with: {', '.join(thing['goes_with'])}")
    lines += [f"✖ {' + '.join(one['between'])}: {one['problem']}" for one in document["misfits"]]
    lines += [f"⚠ {note}" for note in document["notes"]]
    if document["code"] == DONE:
        lines.append("✓ whole" if len(document["things"]) == 1 else "✓ whole, and nothing was found that does not fit")
    return [one_line(line) if not line.startswith(" ") else line for line in lines]


def _parser(prog: str) -> argparse.ArgumentParser:
    codes = "exit codes: 0 whole and fitting, 1 some do not fit one another, 2 damaged, missing or not known"
    parser = Parser(prog=prog, description=_DESCRIPTION, epilog=codes)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a file of weights, or its folder")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser
