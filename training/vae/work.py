"""A VAE's training from pictures to a file, with its log; what a node and a command have in common."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ...files.tensors import write_tensors
from ..loop import Checkpoint
from ..record.log import PLAN, STATE, Log, alone, beside, write_text
from .perceptual import Tower
from .pictures import Gathered, large_enough
from .plan import VAEPlan
from .run import BANDS, Hooks, Measured, TrainedVAE, train_vae
from .stored import AUTO, Stored
from .trainee import VAETrainee


@dataclass(frozen=True)
class Job:
    """What is to be done. state: where the training's state and log lie, without their endings. resume: go on with a
    training that was broken off. every: steps between two validations; saved: between two saved states. dtype: of the
    stored decoder. text: the plan as a file, which is written beside the state; told: more fields for the header of the
    result. notes: for the report.
    """

    state: Path
    plan: VAEPlan
    title: str
    resume: bool = False
    every: int = 50
    saved: int = 200
    dtype: str = AUTO
    text: str = ""
    told: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Watch(Protocol):
    """Who looks on while a VAE learns."""

    def look(self, measured: Measured) -> None:
        """See a validation."""

    def step(self, done: int, total: int, loss: float) -> None:
        """See a step; may raise to break off, or `StopAndKeep`."""

    def tick(self) -> None:
        """Be asked between two pictures; may raise to break off."""


@dataclass(frozen=True, eq=False)
class Done:
    """What came of it."""

    made: TrainedVAE
    gathered: Gathered
    path: Path
    seconds: float


def work(
    job: Job,
    gathered: Gathered,
    trainee: VAETrainee,
    next_path: Callable[[], Path],
    watch: Watch,
    tower: Tower | None = None,
) -> Done:
    """Train, and write the file and the log beside it.

    What breaks the training off leaves a file of what was learned so far, and the state.

    Args:
        next_path: where the file goes.

    Raises:
        TrainingError, ValueError: see `train_vae` and `large_enough`. FileFormatError: the disk refuses.
    """
    begun, gathered = time.monotonic(), large_enough(gathered, job.plan.crop_px)
    write = partial(_written, job, next_path)
    with alone(job):
        log, state = Log(job, BANDS), Checkpoint(beside(job.state, STATE), job.saved, job.resume)

        def after(done: int, total: int, loss: float, errors: Mapping[str, float]) -> None:
            log.add({"step": done, "loss": loss, "errors": errors})
            watch.step(done, total, loss)

        def validated(measured: Measured) -> None:
            log.add_measured(measured.step, measured.look.errors)
            watch.look(measured)

        if job.text:
            write_text(beside(job.state, PLAN), job.text)
        hooks = Hooks(after, validated, job.every, write, watch.tick)
        try:
            made = train_vae(
                trainee, gathered.pictures, job.plan, tower=tower, hooks=hooks, checkpoint=state, dtype=job.dtype
            )
        finally:
            log.write()
        path = write(made.stored, made.losses)
        state.path.unlink(missing_ok=True)
        return Done(made, gathered, path, time.monotonic() - begun)


def _written(job: Job, next_path: Callable[[], Path], stored: Stored, losses: Sequence[float]) -> Path:
    """The file that was written."""
    path = next_path()
    header = {
        "format": "pt",
        "modelspec.title": job.title,
        "cvl.training_comment": "trained by comfyui-clip-vae-lora",
        "cvl.plan": json.dumps(job.plan.describe()),
        "cvl.steps": str(len(losses)),
        "cvl.encoder": stored.encoder_after,
        **job.told,
    }
    tensors: dict[str, Tensor] = stored.state
    write_tensors(path, tensors, header)
    return path
