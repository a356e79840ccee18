"""A CLIP training from what a user asks for to its report: what the node and `cvl train clip` have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...files.captioned.find import find_pairs
from ...lora.weights.fusing import Change
from ...training.clip.data.examples import prepare_pairs
from ...training.clip.data.pictures import usual_side
from ...training.clip.data.shards import read_shards_together
from ...training.clip.saving import LORA, as_written, halves
from ...training.clip.settings import PICTURES, settings_of
from ...training.clip.towers import copied_towers, new_towers
from ...training.clip.work import ClipJob, work
from ...training.lora.plan_file import PlanFile, plan_text
from ...training.record.log import TRAININGS, title_of
from ..host import host
from .clip_report import clip_report
from .plan_file import to_share

if TYPE_CHECKING:
    from ...training.clip.data.examples import Prepared
    from ...training.clip.judging import Measured
    from ...training.clip.settings import ClipSettings
    from ...training.clip.towers import Towers
    from ...training.clip.work import ClipDone
    from ..host.interface import ClipModel, OnStep

CLIP_MODEL = "clip_model"


@dataclass(frozen=True)
class Asked:
    """A training that a user asks for. given: by the names of a plan, without the pictures. pictures: where they lie.
    model: the CLIP to begin with, None: one from scratch; called: its name in the report. models, graph: where a plan
    finds it.
    """

    given: Mapping[str, object]
    pictures: Path
    model: ClipModel | None = None
    called: str = ""
    models: Mapping[str, object] = field(default_factory=dict)
    graph: Mapping[str, Mapping] = field(default_factory=dict)


@dataclass(frozen=True)
class Watching:
    """Who looks on. prepare: (pictures opened, all). step: (done, all, loss). judge: is told of each validation."""

    prepare: OnStep
    step: Callable[[int, int, float], None]
    judge: Callable[[Measured], None] | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of it, and the lines and the data of its report."""

    done: ClipDone
    towers: Towers
    lines: list[str]
    data: dict[str, object]


def train(asked: Asked, output: Path, next_path: Callable[[str], Path], watching: Watching, *, resume: bool) -> Trained:
    """Train as asked. `output`: the folder below which the state lies. `next_path`: the beginning of a file's name ->
    where the file goes.

    Raises:
        ValueError: one sentence; see `settings_of`, `find_pairs`, `prepare_pairs` and `work`.
    """
    settings = settings_of(asked.given)
    _check_start(asked.model, settings)
    pairs = find_pairs(asked.pictures, settings.way, read_shards_together)
    settings = settings.sized(usual_side(pairs.pairs))
    towers = _towers(asked.model, settings)
    prepared = prepare_pairs(pairs, towers.size_px, settings.templates, watching.prepare)
    job = _job(asked, settings, prepared, output, resume)
    done = work(job, towers, prepared, lambda: next_path(settings.filename_prefix), watching.step, watching.judge)
    start = f"scratch ({settings.size_name})" if settings.is_new else asked.called
    return Trained(done, towers, *clip_report(done, job, prepared, start))


def trained_model(trained: Trained, model: ClipModel | None) -> ClipModel:
    """The CLIP that came of a training, with its numbers as a file holds them; with a LoRA the one that it began with,
    and the LoRA on it.
    """
    done, towers = trained.done, trained.towers
    if done.written == LORA:
        adapters = {name: as_written(one) for name, one in done.made.adapters.items()}
        changes = {f"{name}.weight": [Change(one, done.share)] for name, one in adapters.items()}
        return host.patched(model, changes)
    return host.make_clip_model(towers.model.config, halves(towers.model.state_dict()), "auto", towers.tokenizer)


def _check_start(model: ClipModel | None, settings: ClipSettings) -> None:
    if model is not None and not (hasattr(model, "config") and hasattr(model, "tokenizer")):
        raise ValueError(
            f"a CLIP with both encoders was expected, as Load CLIP Model gives it, and {type(model).__name__} came: a "
            "text encoder alone sees no pictures to learn from, nor an image encoder words"
        )
    if (model is None) == settings.is_new:
        return
    raise ValueError(
        "either a CLIP to begin with or a size from scratch was expected, and "
        + ("there is none: give one" if model is None else "there are both: leave one out")
    )


def _towers(model: ClipModel | None, settings: ClipSettings) -> Towers:
    """A copy of the CLIP to begin with, or a new one."""
    plan = settings.plan()
    if model is None:
        assert settings.size is not None
        return new_towers(settings.size, plan.seed, host.training_device(), plan.precision)  # type: ignore[arg-type]
    network, tokenizer = host.clip_network(model), host.text_tokenizer(model)
    return copied_towers(network, tokenizer, host.training_device, plan.precision)  # type: ignore[arg-type]


def _job(asked: Asked, settings: ClipSettings, prepared: Prepared, output: Path, resume: bool) -> ClipJob:
    sure = settings.plan()
    plan = settings.plan(len(prepared.held_out(sure.held_out, sure.seed)[0]))
    title = title_of(settings.filename_prefix, "clip")
    said = {**asked.given, "preset": settings.preset, **({"size": settings.size_name} if settings.is_new else {})}
    if isinstance(asked.given.get("size"), Mapping):
        said["size"] = asked.given["size"]
    file = PlanFile({PICTURES: str(asked.pictures.resolve()), **said}, asked.models, asked.graph)
    return ClipJob(
        output / TRAININGS / title,
        title,
        plan,
        resume=resume,
        every=settings.every or None,
        writes=settings.writes,
        share=settings.share,
        text=plan_text(file, "clip"),
        told={"cvl.plan_file": plan_text(to_share(file), "clip")} if host.saves_workflow() else {},
    )
