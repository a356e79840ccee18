"""A CLIP training from pairs to files, with its log; what a node and a command have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ...clip_core.features.whole_texts import WholeTexts
from ...files.documents import put_vocabulary_beside
from ...files.tensors import write_tensors
from ..distributed import current_group
from ..loop import Checkpoint, trainable
from ..record.log import PLAN, STATE, Log, alone, beside, write_text
from .blending import Drift, Sweep, changed_weights, drift, put_, sweep
from .course import ClipCourse
from .data.examples import Prepared
from .judging import Measured
from .plan import ClipPlan
from .run import ClipHooks, TrainedCLIP, train_clip
from .saving import LORA, lora_file, model_file, what_to_write
from .towers import Towers

LOSS_ALONE = ("loss",)  # the name of the validation's one curve
BEST = "best"


@dataclass(frozen=True)
class ClipJob:
    """What is to be done. state: where the training's state and log lie, without their endings. every: steps between
    two validations, None: a tenth of all; saved: between two saved states. writes: of `saving.WRITES`. share: what is
    written lies so far on the way from before to after, 0..1, or BEST. text: the plan as a file, written beside the
    state. told: more for the file's header.
    """

    state: Path
    title: str
    plan: ClipPlan
    resume: bool = False
    every: int | None = None
    saved: int = 200
    writes: str = "as trained"
    share: float | str = 1.0
    text: str = ""
    told: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ClipDone:
    """What came of it. path: of the file; of several processes, only the first has one. written: what is in it, and at
    which share of the way. without_name: layers that the file has no names for -> why. vocabulary: a SigLIP's, copied
    beside the file.
    """

    made: TrainedCLIP
    path: Path | None
    written: str
    share: float
    sweep: Sweep | None
    drift: Sequence[Drift]
    without_name: Mapping[str, str]
    seconds: float
    vocabulary: Path | None = None


def work(
    job: ClipJob,
    towers: Towers,
    prepared: Prepared,
    next_path: Callable[[], Path],
    on_step: Callable[[int, int, float], None] | None = None,
    on_validation: Callable[[Measured], None] | None = None,
) -> ClipDone:
    """Train, look at the way between before and after, and write the file and the log beside it. The model is left as
    it is written; beside a LoRA as it was.

    Args:
        next_path: where the file goes.
        on_step: (done, all, loss) after each step; may raise to break off, or `StopAndKeep`. What breaks off leaves a
            file of what was learned so far, and the state.

    Raises:
        TrainingError, ClipTargetError, LoRAError, LostProcess: see `train_clip`. FileFormatError: the disk refuses.
    """
    begun, is_first = time.monotonic(), current_group().first
    what = what_to_write(job.writes, job.plan, towers.model)
    with alone(job):
        log = Log(job, LOSS_ALONE)

        def after(done: int, total: int, loss: float) -> None:
            log.add({"step": done, "loss": loss})
            if on_step:
                on_step(done, total, loss)

        def validated(found: Measured) -> None:
            log.add(found.told())
            log.add_measured(found.step, (found.loss,))
            if on_validation:
                on_validation(found)

        def broken(made: TrainedCLIP) -> None:
            _finish(job, towers, prepared, made, what, next_path, looks=False)

        if job.text and is_first:
            write_text(beside(job.state, PLAN), job.text)
        state = Checkpoint(beside(job.state, STATE), job.saved, job.resume)
        hooks = ClipHooks(after, validated, job.every, broken)
        try:
            made = train_clip(towers, prepared, job.plan, hooks=hooks, checkpoint=state)
        finally:
            if is_first:
                log.write()
        if not is_first:
            return ClipDone(made, None, what, 1.0, None, (), {}, time.monotonic() - begun)
        path, share, found, moved, without_name = _finish(job, towers, prepared, made, what, next_path, looks=True)
        state.path.unlink(missing_ok=True)
        vocabulary = None if what == LORA else _with_vocabulary(path, towers)
        return ClipDone(made, path, what, share, found, moved, without_name, time.monotonic() - begun, vocabulary)


def _with_vocabulary(path: Path, towers: Towers) -> Path | None:
    """Put a SigLIP's vocabulary beside its file, without which it reads no text."""
    file = towers.tokenizer.file if isinstance(towers.tokenizer, WholeTexts) else None
    return None if file is None else put_vocabulary_beside(path, file)


def _finish(
    job: ClipJob,
    towers: Towers,
    prepared: Prepared,
    made: TrainedCLIP,
    what: str,
    next_path: Callable[[], Path],
    *,
    looks: bool,
) -> tuple[Path, float, Sweep | None, list[Drift], Mapping[str, str]]:
    """Judge the way from before to after where `looks`, and write the file."""
    model = towers.model
    with trainable():
        before, after = _both_ends(towers, made)
        found, moved = None, []
        if looks:
            course = ClipCourse(towers, prepared, job.plan)
            found = sweep(course, before, after)
            texts = sorted({text for one in prepared.examples for text in one.captions[:1]})
            moved = drift(towers, texts, before, after)
        share = 1.0
        if looks and found is not None:
            share = found.shares[found.best] if job.share == BEST else float(job.share)
        path = next_path()
        without_name: Mapping[str, str] = {}
        if what == LORA:
            put_(model, before, after, 0.0)
            tensors, header, without_name = lora_file(made.adapters, model, job.plan, job.title, len(made.losses))
        else:
            put_(model, before, after, share)
            tensors, header = model_file(model, what, job.plan)
        write_tensors(path, tensors, {**header, **job.told})
    return path, share, found, moved, without_name


def _both_ends(towers: Towers, made: TrainedCLIP) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights that have changed, before and after."""
    before, after = changed_weights(towers.model, made.adapters)
    return made.start | before, made.end | after
