"""cvl train clip PLAN.toml: a CLIP from pictures with captions or classes, from scratch or from a file.

Exit codes: 0 done, 1 the training failed, 2 wrong usage, plan or input, 130 interrupted (the state is saved).

    [training]                                # numbers of the recipe are changed by name
    pictures = "my_pictures"                  # a folder, a table or shards, seen from the file
    preset = "FLYP"
    template = "a photo of {}"                # for folders named as classes
    steps = 500

    [models]
    clip_model = "ViT-B-32.safetensors"       # or in [training]: size = "tiny", to begin from scratch
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...files.captioned.find import find_pairs
from ...files.errors import FileFormatError
from ...files.images import next_path
from ...files.writing import check_writable
from ...nodes.clip.load import load_clip_model
from ...nodes.host import host
from ...nodes.host.alone import place
from ...nodes.training.clip_report import clip_report
from ...training.clip.data.examples import prepare_pairs
from ...training.clip.presets import FROM_SCRATCH, PRESETS
from ...training.clip.settings import PICTURES, ClipSettings, settings_of
from ...training.clip.towers import Towers, copied_towers, new_towers
from ...training.clip.work import ClipJob, work
from ...training.device import NoSuchDevice, named_device
from ...training.distributed import join_group, own_device
from ...training.lora.plan_file import PlanFile, plan_text
from ...training.record.log import TRAININGS, title_of
from ..command import DONE, FAILED, INTERRUPTED, WRONG, Parser
from ..report import failed, missing_package
from ..workflow.graph import WorkflowError
from .interruption import Stoppable, finishing_the_step
from .plan import check_names, parse_plan

_DESCRIPTION = """Trains a CLIP as a plan says, or from a folder, table or shards of pictures with what the options say.
An interrupted training goes on with --resume and ends in the same bits. Under torchrun the pictures of each step are
shared among the processes."""
_EXIT_CODES = "exit codes: 0 done, 1 the training failed, 2 wrong usage, plan or input, 130 interrupted"
_MODEL = "clip_model"


@dataclass(frozen=True)
class _Wanted:
    """A training, once its plan is read."""

    settings: ClipSettings
    pictures: Path
    model: Path | None
    text: str


def main(arguments: Sequence[str], prog: str = "cvl train clip") -> int:
    """Run the command; returns the exit code."""
    as_json = "--json" in arguments
    try:
        found = _run(_parser(prog).parse_args(list(arguments)))
    except (WorkflowError, FileFormatError, NoSuchDevice) as error:
        return failed(error, WRONG, as_json)
    except (ValueError, FileNotFoundError) as error:
        return failed(error, FAILED, as_json)
    except ModuleNotFoundError as error:
        return failed(missing_package(error), WRONG, as_json)
    except KeyboardInterrupt:
        return failed("interrupted; the same command with --resume goes on from here", INTERRUPTED, as_json)
    if found is not None:
        lines, data = found
        print(json.dumps(data, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))
    return DONE


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(prog=prog, description=_DESCRIPTION, epilog=_EXIT_CODES)
    parser.add_argument("plan", type=Path, metavar="PLAN", help="a plan (.toml), or the pictures themselves")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted training of this plan")
    parser.add_argument("--pictures", type=Path, metavar="PLACE", help="instead of the plan's pictures")
    parser.add_argument("--model", type=Path, metavar="FILE", help="the CLIP to begin with; without one, from scratch")
    parser.add_argument("--preset", choices=list(PRESETS), help="the recipe, whose numbers the plan may change")
    parser.add_argument("--size", help="of a CLIP from scratch: tiny, small, or a published one such as ViT-B-32")
    parser.add_argument("--template", help="the sentence for the name of a class, with {} in its place")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--name", help="folder and beginning of the file's name in the output folder")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="FOLDER", help="default: output")
    parser.add_argument("--device", default="auto", help="auto (the card, where there is one), cpu, cuda, xpu or mps")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quiet", action="store_true", help="say nothing of progress")
    return parser


def _run(options: argparse.Namespace) -> tuple[list[str], dict] | None:
    """Train; the lines and the data of the report, or None in a process that is not the first."""
    wanted = _wanted(options)
    check_writable(options.output)
    device = own_device(named_device(options.device))
    with join_group(device) as group:
        progress = Stoppable(sys.stderr, quiet=options.quiet or options.json or not group.first)
        try:
            with finishing_the_step(progress):
                found = _trained(wanted, options, progress, device)
        finally:
            progress.close()
        return found if group.first else None


def _trained(wanted: _Wanted, options: argparse.Namespace, progress: Stoppable, device) -> tuple[list[str], dict]:
    settings = wanted.settings
    towers, start = _start(wanted, device)
    pairs = find_pairs(wanted.pictures, settings.way)
    progress.node(f"{len(pairs.pairs)} pictures of {wanted.pictures.name}")
    prepared = prepare_pairs(pairs, towers.size_px, settings.templates, progress.step)
    plan = settings.plan(len(prepared.held_out(settings.plan().held_out, settings.plan().seed)[0]))
    title = title_of(settings.filename_prefix, "clip")
    job = ClipJob(
        options.output.absolute() / TRAININGS / title,
        title,
        plan,
        resume=options.resume,
        every=settings.every or None,
        writes=settings.writes,
        share=settings.share,
        text=wanted.text,
    )
    progress.node(f"training {title}")
    path = partial(next_path, options.output, settings.filename_prefix, ".safetensors")
    done = work(job, towers, prepared, path, lambda step, total, _: progress.step(step, total))
    return clip_report(done, job, prepared, start)


def _start(wanted: _Wanted, device) -> tuple[Towers, str]:
    """The CLIP to begin with, and what it is called."""
    settings, plan = wanted.settings, wanted.settings.plan()
    if wanted.model is None:
        assert settings.size is not None
        return new_towers(settings.size, plan.seed, device, plan.precision), f"scratch ({settings.size_name})"
    place.set_device(device)
    model, _, _ = load_clip_model(wanted.model, "auto", "fp32")
    network, tokenizer = host.clip_network(model), host.text_tokenizer(model)
    return copied_towers(network, tokenizer, device, plan.precision), wanted.model.name  # type: ignore[arg-type]


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
        if plan.graph:
            raise ValueError("a training of a CLIP loads its model from a file: [models] has clip_model for it")
        check_names(plan.models, (_MODEL,), "[models] of the plan has no")
        given = dict(plan.training)
        if is_plan and isinstance(given.get(PICTURES), str):
            given[PICTURES] = str(base / str(given[PICTURES]))
        model = options.model or _model_of(plan.models.get(_MODEL), base)
        given |= _changes(options)
        if model is None and not is_plan:  # pictures alone
            given = {"size": "tiny", "preset": FROM_SCRATCH, **given}
        settings = settings_of(given)
    except OSError as error:
        raise WorkflowError(f"{options.plan}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise WorkflowError(f"{options.plan.name}: {error}") from error
    if not isinstance(given.get(PICTURES), str):
        raise WorkflowError(f'the plan names no pictures: add pictures = "FOLDER" to [training], or give --{PICTURES}')
    if (model is None) == (settings.size is None):
        raise WorkflowError(
            "either a CLIP to begin with (--model, or clip_model in [models]) or a size from scratch was expected, and "
            + ("there is none: give one" if model is None else "there are both: leave one out")
        )
    pictures = Path(str(given[PICTURES]))
    told = {name: value for name, value in given.items() if name != PICTURES}
    models = {} if model is None else {_MODEL: str(model.resolve())}
    text = plan_text(PlanFile({PICTURES: str(pictures.resolve()), **told}, models), "clip")
    return _Wanted(settings, pictures, model, text)


def _changes(options: argparse.Namespace) -> Mapping[str, object]:
    """What the options say, by the names of a plan."""
    names = {"preset": "preset", "size": "size", "template": "template", "steps": "steps", "name": "filename_prefix"}
    found = {own: getattr(options, name) for name, own in names.items() if getattr(options, name) is not None}
    if options.pictures is not None:
        found[PICTURES] = str(options.pictures)
    return found


def _model_of(told: object, base: Path) -> Path | None:
    """The file of a CLIP, seen from the plan.

    Raises:
        ValueError: it is no name of a file.
    """
    if told is None:
        return None
    if isinstance(told, str):
        return base / told
    raise ValueError(f"clip_model in [models] is {told!r}: expected the name of a file")
