"""cvl train clip PLAN.toml: a CLIP from pictures with captions or classes, from scratch or from a file.

Exit codes: 0 done, 1 the training failed, 2 wrong usage, plan or input, 130 interrupted (the state is saved).

    [training]                                # numbers of the recipe are changed by name
    pictures = "my_pictures"                  # a folder, a table or shards, seen from the file
    preset = "FLYP"
    template = "a photo of {}"                # for folders named as classes
    steps = 500

    [models]
    clip_model = "ViT-B-32.safetensors"       # or in [training]: size = "auto", to begin from scratch
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ...files.images import next_path
from ...files.writing import check_writable
from ...nodes.clip.load import load_clip_model
from ...nodes.host.alone import place
from ...nodes.training.clip_training import CLIP_MODEL, Asked, Watching, train
from ...training.clip.presets import AUTO, PRESETS
from ...training.clip.settings import PICTURES, ClipSettings, settings_of
from ...training.device import named_device
from ...training.distributed import ProcessGroup, own_device
from ...training.lora.plan_file import PlanFile
from ...training.record.log import title_of
from ..command import Parser
from ..report import failed
from ..workflow.embedded import value_here
from ..workflow.folders import Folders
from ..workflow.graph import WorkflowError, link_of
from .interruption import Stoppable
from .plan import check_names, node_of, parse_plan
from .running import EXIT_CODES, add_options, exit_code, in_processes

_DESCRIPTION = """Trains a CLIP on pictures with captions, or on folders named as classes: all of it, some blocks, one
encoder, or a LoRA beside them. Without a plan, the pictures alone are enough: a CLIP as large as suits them is then
trained from scratch. An interrupted training goes on with --resume and ends in the same bits. Under torchrun the
pictures of each step are shared among the processes."""


@dataclass(frozen=True)
class _Wanted:
    """A plan, once it is read, with what the options say in place of its own. model: a file, or [node, output]."""

    given: Mapping[str, object]
    pictures: Path
    model: Path | tuple[str, int] | None
    graph: Mapping[str, Mapping]


def main(arguments: Sequence[str], prog: str = "cvl train clip") -> int:
    """Run the command; returns the exit code."""
    as_json = "--json" in arguments

    def run() -> None:
        found = _run(_parser(prog).parse_args(list(arguments)))
        if found is not None:
            lines, data = found
            print(json.dumps(data, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))

    return exit_code(run, lambda error, code: failed(error, code, as_json))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(prog=prog, description=_DESCRIPTION, epilog=EXIT_CODES)
    add_options(parser, "a plan, or the pictures themselves")
    parser.add_argument("--model", type=Path, metavar="FILE", help="the CLIP to begin with; without one, from scratch")
    parser.add_argument("--preset", choices=list(PRESETS), help="the recipe, whose numbers the plan may change")
    parser.add_argument("--size", help="of a CLIP from scratch: auto, tiny, small, or a published one such as ViT-B-32")
    parser.add_argument("--template", help="the sentence for the name of a class, with {} in its place")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--name", help="folder and beginning of the file's name in the output folder")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="FOLDER", help="default: output")
    parser.add_argument("--device", default="auto", help="auto (the card, where there is one), cpu, cuda, xpu or mps")
    return parser


def _run(options: argparse.Namespace) -> tuple[list[str], dict] | None:
    """Train; the lines and the data of the report, or None in a process that is not the first."""
    wanted = _wanted(options)
    check_writable(options.output)
    device = own_device(named_device(options.device))

    def run(progress: Stoppable, group: ProcessGroup) -> tuple[list[str], dict] | None:
        found = _trained(wanted, options, progress, device)
        return found if group.first else None

    return in_processes(options, device, run)


def _trained(
    wanted: _Wanted, options: argparse.Namespace, progress: Stoppable, device: torch.device
) -> tuple[list[str], dict]:
    place.set_device(device)
    asked = _asked(wanted, options, progress)
    title = title_of(str(wanted.given.get("filename_prefix", ClipSettings.filename_prefix)), "clip")
    progress.node(f"reading {wanted.pictures.name}")
    is_reading = [True]

    def on_step(step: int, total: int, loss: float) -> None:
        if is_reading:
            is_reading.clear()
            progress.node(f"training {title}")
        progress.step(step, total)

    path = partial(next_path, options.output, suffix=".safetensors")
    watching = Watching(progress.step, on_step)
    trained = train(asked, options.output.absolute(), path, watching, resume=options.resume)
    return trained.lines, trained.data


def _asked(wanted: _Wanted, options: argparse.Namespace, progress: Stoppable) -> Asked:
    """The training, with the CLIP to begin with."""
    model = wanted.model
    if model is None:
        return Asked(wanted.given, wanted.pictures)
    if isinstance(model, Path):
        loaded = load_clip_model(model, "auto", "fp32")[0]
        return Asked(wanted.given, wanted.pictures, loaded, model.name, {CLIP_MODEL: str(model.resolve())})
    folders = Folders(options.output.absolute(), models=options.models)
    graph = {name: node_of(name, found) for name, found in wanted.graph.items()}
    made = value_here(graph, model, folders, progress)
    named = "the CLIP that is connected"
    return Asked(wanted.given, wanted.pictures, made, named, {CLIP_MODEL: list(model)}, wanted.graph)


def _wanted(options: argparse.Namespace) -> _Wanted:
    """The plan, with what the options say in place of its own.

    Raises:
        WorkflowError: no plan, or one that cannot be followed.
    """
    is_plan = options.plan.suffix.lower() == ".toml"
    base = options.plan.parent
    try:
        plan = (
            parse_plan(options.plan.read_text(encoding="utf-8")) if is_plan else PlanFile({PICTURES: str(options.plan)})
        )
        check_names(plan.models, (CLIP_MODEL,), "[models] of the plan has no")
        given = dict(plan.training)
        if is_plan and isinstance(given.get(PICTURES), str):
            given[PICTURES] = str(base / str(given[PICTURES]))
        model = options.model or _model_of(plan.models.get(CLIP_MODEL), base)
        given |= _changes(options)
        if model is None and not is_plan:  # pictures alone
            given = {"size": AUTO, **given}
        settings = settings_of(given)
    except OSError as error:
        raise WorkflowError(f"{options.plan}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise WorkflowError(f"{options.plan.name}: {error}") from error
    if not isinstance(given.get(PICTURES), str):
        raise WorkflowError(f'the plan names no pictures: add pictures = "FOLDER" to [training], or give --{PICTURES}')
    if (model is None) != settings.is_new:
        raise WorkflowError(
            "either a CLIP to begin with (--model, or clip_model in [models]) or a size from scratch was expected, and "
            + ("there is none: give one" if model is None else "there are both: leave one out")
        )
    told = {name: value for name, value in given.items() if name != PICTURES}
    return _Wanted(told, Path(str(given[PICTURES])), model, plan.graph)


def _changes(options: argparse.Namespace) -> Mapping[str, object]:
    """What the options say, by the names of a plan."""
    names = {"preset": "preset", "size": "size", "template": "template", "steps": "steps", "name": "filename_prefix"}
    found = {own: getattr(options, name) for name, own in names.items() if getattr(options, name) is not None}
    if options.pictures is not None:
        found[PICTURES] = str(options.pictures)
    return found


def _model_of(told: object, base: Path) -> Path | tuple[str, int] | None:
    """The file of a CLIP, seen from the plan, or the output of a node of its graph.

    Raises:
        ValueError: it is neither.
    """
    if told is None:
        return None
    if isinstance(told, str):
        return base / told
    if (link := link_of(told)) is not None:
        return link
    raise ValueError(f"clip_model in [models] is {told!r}: expected the name of a file, or [node, output] of [graph]")
