"""cvl learn labels INDEX --model FILE: Learn Labels (CVL) on an index that `cvl embed` made.

Exit codes: 0 done, 1 nothing could be learned or written, 2 wrong usage, 130 interrupted (nothing is half-written).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ...clip_core.few_labels.asking import WAYS as WAYS_TO_ASK
from ...clip_core.few_labels.learning import AUTO, Wish
from ...clip_core.few_labels.methods import METHODS
from ...clip_core.networks.precision import EXACT, PRECISIONS
from ...files.errors import FileFormatError
from ...files.images import next_path
from ...index.reading import open_index
from ...nodes.clip.load import load_clip_model
from ...nodes.host.alone import place
from ...nodes.labels.head_file import SUFFIX, write_labels
from ...nodes.labels.learning import TEMPLATE, Settings, learn_index
from ...nodes.labels.report import report_of
from ...nodes.labels.writing import WAYS, write_answers
from ...nodes.search import indexing
from ...training.device import NoSuchDevice, named_device
from ..command import DONE, FAILED, INTERRUPTED, WRONG, Parser
from ..progress import Progress
from ..report import failed, missing_package

_DESCRIPTION = """Learns labels from the labelled pictures of an index and from all its others: folders named as the
classes, or --picks. Says how good they are on labels held out, and writes them down."""
_EXIT_CODES = "exit codes: 0 done, 1 nothing could be learned or written, 2 wrong usage, 130 interrupted"


def main(arguments: Sequence[str] | None = None, prog: str = "cvl learn") -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    progress = Progress(sys.stderr, quiet="--quiet" in arguments)
    as_json = "--json" in arguments
    try:
        lines, data = _run(_parser(prog).parse_args(arguments), progress)
    except (ValueError, FileNotFoundError, FileFormatError, NoSuchDevice) as error:
        return failed(error, FAILED, as_json)
    except ModuleNotFoundError as error:
        return failed(missing_package(error), WRONG, as_json)
    except KeyboardInterrupt:
        return failed("interrupted", INTERRUPTED, as_json)
    finally:
        progress.close()
    print(json.dumps(data, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))
    return DONE


def _run(options: argparse.Namespace, progress: Progress) -> tuple[list[str], dict]:
    """Learn and write; the lines and the data of the report."""
    place.set_device(named_device(options.device))
    wish = Wish(options.method, options.held_out, options.threshold, options.seed)
    picks = options.picks.read_text(encoding="utf-8") if options.picks else ""
    classes = options.classes.read_text(encoding="utf-8") if options.classes else ""
    template = options.template
    settings = Settings(
        classes, options.labelled, picks, template, wish, options.ask, options.ask_by, options.precision
    )
    index = open_index(options.index)
    model, _, _ = load_clip_model(options.model, options.activation, options.dtype)
    notes = indexing.check_and_note(index, model, options.precision)
    base = index.pictures_folder
    progress.node(f"{options.index} with {index.facts.model_name}")
    lesson = learn_index(index, lambda path: path.relative_to(base).as_posix(), model, None, settings, progress.step)
    options.output.mkdir(parents=True, exist_ok=True)
    new_path = partial(next_path, options.output, options.name)
    path = new_path(SUFFIX)
    written, lost = write_answers(lesson, options.write, new_path, progress.step)
    write_labels(path, lesson.labels)
    lines, data = report_of(lesson, str(path), written)
    lines += [*notes, *lost, *([written] if written else []), str(path)]
    return lines, {"index": str(options.index), **data, "notes": [*data["notes"], *notes, *lost]}


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(prog=prog, description=_DESCRIPTION, epilog=_EXIT_CODES)
    parser.add_argument("what", choices=["labels"], help="what is learned")
    parser.add_argument("index", type=Path, metavar="INDEX", help="an index's folder, as `cvl embed` makes it")
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="the CLIP that made the index")
    parser.add_argument(
        "--classes", type=Path, metavar="FILE.txt", help="a class a line, as the node takes them; default: the folders"
    )
    parser.add_argument("--labelled", default="", metavar="FOLDER", help="below the index's: its folders are classes")
    parser.add_argument("--picks", type=Path, metavar="FILE", help="lines `picture = class`, or JSON {picture: class}")
    parser.add_argument("--template", default=TEMPLATE, help="a class in a sentence; empty: from pictures alone")
    parser.add_argument("--method", choices=[AUTO, *METHODS], default=AUTO, help="default: what does best")
    parser.add_argument("--held-out", type=float, default=0.2, help="the share of labels that only report (0.2)")
    parser.add_argument("--threshold", type=float, default=0.8, help="the probability that counts as sure (0.8)")
    parser.add_argument("--ask", type=int, default=12, help="how many pictures to label next are named (12)")
    parser.add_argument("--ask-by", choices=WAYS_TO_ASK, default=WAYS_TO_ASK[0])
    parser.add_argument("--write", choices=WAYS, default=WAYS[0], help="what is written of what is sure")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="FOLDER", help="default: output/")
    parser.add_argument("--name", default="labels/learned", help="of what is written, below that")
    parser.add_argument("--seed", type=int, default=0, help="which labels are held out")
    parser.add_argument("--activation", choices=["auto", "quick_gelu", "gelu"], default="auto")
    parser.add_argument("--device", default="auto", help="auto (the card, where there is one), cpu, cuda, xpu or mps")
    parser.add_argument("--dtype", choices=["auto", "fp32", "fp16", "bf16"], default="auto", help="of the weights")
    parser.add_argument("--precision", choices=list(PRECISIONS), default=EXACT, help="of the texts' activations")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quiet", action="store_true", help="say nothing of progress")
    return parser
