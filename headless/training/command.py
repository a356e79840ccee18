"""cvl train lora|vae PLAN.toml: Train LoRA or Train VAE without a canvas, on models of this pack or of a ComfyUI.

Exit codes: 0 done, 1 the training failed, 2 wrong usage, plan or input, 130 interrupted (the state is saved).
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...files.writing import check_writable
from ...training.device import best_device
from ...training.distributed import ProcessGroup, own_device
from ..command import Parser
from ..report import Report
from ..workflow.folders import Folders
from ..workflow.graph import WorkflowError, label
from . import in_comfyui
from .interruption import Stoppable
from .plan import LORA, Kind, PlanFile, pictures_of, read_plan, workflow_of
from .running import EXIT_CODES, add_options, exit_code, in_processes

_DESCRIPTIONS = {
    "lora": """Trains a LoRA as a plan says: the plan that the node Train LoRA wrote into cvl_training in the output
folder, or one of your own. An interrupted training goes on with --resume and ends in the same bits. Under torchrun the
pictures of each step are shared among the processes.""",
    "vae": """Trains a VAE's decoder as a plan says: the plan that the node Train VAE wrote into cvl_training in the
output folder, or one of your own. An interrupted training goes on with --resume and ends in the same bits.""",
}
_WORDS = {"model": "diffusion model", "clip": "text encoder", "vae": "VAE", "clip_model": "CLIP that looks at pictures"}


def main(arguments: Sequence[str], prog: str = "cvl train lora", kind: Kind = LORA) -> int:
    """Run the command for what is trained; returns the exit code."""
    report = Report(as_json="--json" in arguments)

    def run() -> None:
        if _run(_parser(prog, kind).parse_args(list(arguments)), report, kind):
            report.done()

    def failed(error: object, code: int) -> int:
        report.failed(error, code)
        return code

    return exit_code(run, failed)


def _parser(prog: str, kind: Kind = LORA) -> argparse.ArgumentParser:
    parser = Parser(prog=prog, description=_DESCRIPTIONS[kind.what], epilog=EXIT_CODES)
    add_options(parser, "what is trained on what, and how")
    for name in kind.loaders:
        words = f"instead of the plan's {_WORDS[name]}, by its name in the menus"
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="FILE", help=words)
    parser.add_argument("--checkpoint", metavar="FILE", help="all of them from one file; with --comfyui only")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="default: output/, with --comfyui that ComfyUI's own"
    )
    parser.add_argument(
        "--comfyui", type=Path, metavar="FOLDER", help="an installed ComfyUI, whose nodes load any model; in its Python"
    )
    parser.add_argument(
        "--comfyui-args", default="", metavar='"--lowvram ..."', help="for that ComfyUI, as its main.py takes them"
    )
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

    def train(progress: Stoppable, group: ProcessGroup) -> bool:
        for found in (_in_comfyui if options.comfyui else _here)(options, plan, pictures, progress, kind):
            if group.first:
                report.node(*found)
        return group.first

    return in_processes(options, own_device(best_device()), train)


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
