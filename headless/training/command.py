"""cvl train lora|vae PLAN.toml: Train LoRA or Train VAE without a canvas, on models of this pack or of a ComfyUI.

Exit codes: 0 done, 1 the training failed, 2 wrong usage, plan or input, 130 interrupted (the state is saved).
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...files.errors import FileFormatError
from ...files.writing import check_writable
from ...training.device import best_device
from ...training.distributed import join_group, own_device
from ..command import DONE, FAILED, INTERRUPTED, WRONG, Parser
from ..report import Report, missing_package
from ..workflow.folders import Folders
from ..workflow.graph import NodeFailure, WorkflowError, label
from . import in_comfyui
from .interruption import Stoppable, finishing_the_step
from .plan import LORA, Kind, PlanFile, pictures_of, read_plan, workflow_of

_DESCRIPTIONS = {
    "lora": """Trains a LoRA as a plan says: the plan that the node Train LoRA wrote into cvl_training in the output
folder, or one of your own. An interrupted training goes on with --resume and ends in the same bits. Under torchrun the
pictures of each step are shared among the processes.""",
    "vae": """Trains a VAE's decoder as a plan says: the plan that the node Train VAE wrote into cvl_training in the
output folder, or one of your own. An interrupted training goes on with --resume and ends in the same bits.""",
}
_WORDS = {"model": "diffusion model", "clip": "text encoder", "vae": "VAE", "clip_model": "CLIP that looks at pictures"}
_EXIT_CODES = "exit codes: 0 done, 1 the training failed, 2 wrong usage, plan or input, 130 interrupted"


def main(arguments: Sequence[str], prog: str = "cvl train lora", kind: Kind = LORA) -> int:
    """Run the command for what is trained; returns the exit code."""
    report = Report(as_json="--json" in arguments)
    try:
        if _run(_parser(prog, kind).parse_args(list(arguments)), report, kind):
            report.done()
        return DONE
    except NodeFailure as error:
        return _failed(report, error, FAILED)
    except (WorkflowError, FileFormatError) as error:
        return _failed(report, error, WRONG)
    except ModuleNotFoundError as error:
        return _failed(report, missing_package(error), WRONG)
    except KeyboardInterrupt:
        return _failed(report, "interrupted; the same command with --resume goes on from here", INTERRUPTED)


def _parser(prog: str, kind: Kind = LORA) -> argparse.ArgumentParser:
    parser = Parser(prog=prog, description=_DESCRIPTIONS[kind.what], epilog=_EXIT_CODES)
    parser.add_argument("plan", type=Path, metavar="PLAN.toml", help="what is trained on what, and how")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted training of this plan")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="instead of the plan's folder of pictures")
    for name in kind.loaders:
        words = f"instead of the plan's {_WORDS[name]}, by its name in the menus"
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="FILE", help=words)
    parser.add_argument("--checkpoint", metavar="FILE", help="all of them from one file; with --comfyui only")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="default: output/, with --comfyui that ComfyUI's own"
    )
    parser.add_argument(
        "--models", type=Path, metavar="FOLDER", help="a models folder as ComfyUI has it; without --comfyui"
    )
    parser.add_argument(
        "--comfyui", type=Path, metavar="FOLDER", help="an installed ComfyUI, whose nodes load any model; in its Python"
    )
    parser.add_argument(
        "--comfyui-args", default="", metavar='"--lowvram ..."', help="for that ComfyUI, as its main.py takes them"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quiet", action="store_true", help="say nothing of progress")
    return parser


def _run(options: argparse.Namespace, report: Report, kind: Kind) -> bool:
    """Train; whether this process is the one that says so: under torchrun the first."""
    report.as_json = options.json
    plan = read_plan(options.plan, vars(options), kind)
    pictures = pictures_of(plan, kind)
    if options.models is not None and (options.comfyui or not options.models.is_dir()):
        raise WorkflowError(
            f"--models {options.models} "
            + ("is not for --comfyui, which has its own" if options.comfyui else "is no folder")
        )
    if options.output is not None:
        check_writable(options.output)
    device = own_device(best_device())
    with join_group(device) as group:
        progress = Stoppable(sys.stderr, quiet=options.quiet or options.json or not group.first)
        try:
            with finishing_the_step(progress):
                for found in (_in_comfyui if options.comfyui else _here)(options, plan, pictures, progress, kind):
                    if group.first:
                        report.node(*found)
        finally:
            progress.close()
        return group.first


def _here(
    options: argparse.Namespace, plan: PlanFile, pictures: Path | None, progress: Stoppable, kind: Kind
) -> Iterator[tuple[str, str, dict[str, list], list[Path]]]:
    from ...nodes.host.alone import place
    from ...nodes.training.plan_file import input_names
    from ..workflow.embedded import run_here

    place.set_device(own_device(best_device()))
    prompt = workflow_of(plan, input_names(kind.node), resume=options.resume, in_comfyui=False, kind=kind)
    output = options.output or Path("output")
    folders = Folders(output.absolute(), () if pictures is None else (pictures.parent,), models=options.models)
    return run_here(prompt, [], folders, progress, [])


def _in_comfyui(
    options: argparse.Namespace, plan: PlanFile, pictures: Path | None, progress: Stoppable, kind: Kind
) -> Iterator[tuple[str, str, dict[str, list], list[Path]]]:
    in_comfyui.enter(options.comfyui, shlex.split(options.comfyui_args))
    from ...nodes.training.plan_file import input_names
    from ..workflow.check import checked
    from ..workflow.embedded import specs_of
    from ..workflow.execute import execute

    in_comfyui.prepare(pictures, options.output, progress)
    prompt = workflow_of(plan, input_names(kind.node), resume=options.resume, in_comfyui=True, kind=kind)
    classes = in_comfyui.classes_for(prompt)
    prompt, order = checked(prompt, specs_of(classes), classes)
    for node, ui in execute(
        prompt, order, classes, None, lambda node: progress.node(f"[{order.index(node) + 1}/{len(order)}] {node}")
    ):
        progress.close()
        yield node, label(prompt, node), ui, []


def _failed(report: Report, error: object, code: int) -> int:
    report.failed(error, code)
    return code
