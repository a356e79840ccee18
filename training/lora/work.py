"""A LoRA training from a folder to a file, with its log; what a node and a command have in common."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from ...files.captioned.folder import captioned_folder
from ...files.tensors import write_tensors
from ..distributed import current_group
from ..loop import Checkpoint, OnStep, TrainingError
from ..record.log import PLAN, STATE, Log, alone, beside, write_text
from .course import Course, Measured, Picture
from .data.captions import with_trigger, without_trigger
from .data.pictures import EncodeImage, Prepared, prepare_folder
from .data.prompts import Encode
from .plan import LoRAPlan
from .run import Hooks, TrainedLoRA, train_lora
from .saving import lora_file
from .trainee import Trainee


@dataclass(frozen=True)
class Job:
    """What is to be done. folder: of the pictures; None where a graph has made the latents. state: where the training's
    state and log lie, without their endings. resume: go on with a training that was broken off. every: steps between
    two validations; saved: between two saved states. text: the plan as a file, which is written beside the state; told:
    more fields for the header of the result. notes: for the report.
    """

    folder: Path | None
    state: Path
    resolution_px: int
    step_px: int
    plan: LoRAPlan
    title: str
    dialect: str = "kohya"
    enlarge: bool = True
    use_alpha: bool = True
    resume: bool = False
    every: int = 50
    saved: int = 200
    text: str = ""
    told: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Watch(Protocol):
    """Who looks on while a model learns. texts: prompts that it samples with."""

    texts: Sequence[str]

    def look(self, measured: Measured, course: Course) -> None:
        """See the validation and the course; gradients are as in training, and the model is not to be changed."""


@dataclass(frozen=True, eq=False)
class Done:
    """What came of it. without_name: weights that the dialect has no name for -> why."""

    made: TrainedLoRA
    prepared: Prepared
    path: Path
    without_name: Mapping[str, str]
    seconds: float


def prepare(job: Job, encode_image: EncodeImage, on_step: OnStep | None = None) -> Prepared:
    """Read the folder and encode its pictures.

    Raises:
        FileFormatError: no folder, or no picture in it. TrainingError: none of its pictures can be read.
    """
    if job.folder is None:
        raise TrainingError("no folder of pictures was given: name one")
    prepared = prepare_folder(
        captioned_folder(job.folder),
        job.folder,
        encode_image,
        resolution_px=job.resolution_px,
        step_px=job.step_px,
        enlarge=job.enlarge,
        use_alpha=job.use_alpha,
        on_step=on_step,
    )
    if not prepared.pictures:
        name, why = next(iter(prepared.unused.items()))
        raise TrainingError(f"none of the pictures in {job.folder.name} can be used ({name}: {why}): choose others")
    return prepared


def work(
    job: Job,
    prepared: Prepared,
    encode: Encode,
    trainee: Callable[[], AbstractContextManager[Trainee]],
    shapes: Mapping[str, Sequence[int]],
    next_path: Callable[[], Path],
    on_step: Callable[[int, int, float], None] | None = None,
    watch: Watch | None = None,
    text_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Done:
    """Train, and write the file and the log beside it.

    Args:
        trainee: makes the model ready, once the prompts that do not vary are encoded; those of a text encoder that
            learns are encoded at each step.
        shapes, text_shapes: names and shapes of the weights of the model, and of a text encoder that learns.
        next_path: where the file goes.
        on_step: (done, all, loss) after each step; may raise to break off, or `StopAndKeep`. What breaks off leaves a
            file of what was learned so far, and the state.
        watch: is shown the course at every validation.

    Raises:
        TrainingError, TargetError, LoRAError, ValueError: see `train_lora`. FileFormatError: the disk refuses.
    """
    begun = time.monotonic()
    write = partial(_written, job, prepared, shapes, text_shapes or {}, next_path)
    with alone(job):
        log, is_first = Log(job), current_group().first  # of several processes that work on it together, one writes
        if not job.plan.text_encoder_rate:
            encode = _encoded_before(prepared.pictures, job.plan, encode, watch.texts if watch else ())

        def after(done: int, total: int, loss: float) -> None:
            log.add({"step": done, "loss": loss})
            if on_step:
                on_step(done, total, loss)

        hooks = Hooks(
            after,
            lambda found: log.add_measured(found.step, found.bands),
            job.every,
            write,
            watch.look if watch else None,
        )
        state = Checkpoint(beside(job.state, STATE), job.saved, job.resume)
        if job.text and is_first:
            write_text(beside(job.state, PLAN), job.text)
        try:
            with trainee() as ready:
                made = train_lora(ready, prepared.pictures, encode, job.plan, hooks=hooks, checkpoint=state)
        finally:
            if is_first:
                log.write()
        path, without_name = current_group().share(write(made) if is_first else (job.state, {}))
        if is_first:
            state.path.unlink(missing_ok=True)
        return Done(made, prepared, path, without_name, time.monotonic() - begun)


def _written(
    job: Job,
    prepared: Prepared,
    shapes: Mapping[str, Sequence[int]],
    text_shapes: Mapping[str, Sequence[int]],
    next_path: Callable[[], Path],
    made: TrainedLoRA,
) -> tuple[Path, Mapping[str, str]]:
    """The file that was written, and the weights that its dialect has no name for."""
    path = next_path()
    tensors, header, without_name = lora_file(
        made,
        shapes,
        job.plan,
        [replace(one, caption="") for one in prepared.pictures] if prepared.prompts else prepared.pictures,
        title=job.title,
        resolution_px=job.resolution_px,
        dialect=job.dialect,
        told=job.told,
        text_shapes=text_shapes,
    )
    write_tensors(path, tensors, header)
    return path, without_name


def _encoded_before(pictures: Sequence[Picture], plan: LoRAPlan, encode: Encode, also: Sequence[str]) -> Encode:
    """The same, with what is known to be said encoded now, before the model is brought to the card."""
    texts = {plan.class_word, *also} if plan.keep else set(also)
    if plan.captions.drop_whole:
        texts.add("")
    if not plan.captions.varies:
        trigger = plan.captions.trigger
        said = {with_trigger(picture.caption, trigger) for picture in pictures}
        texts |= said | ({without_trigger(text, trigger, plan.class_word) for text in said} if plan.keep else set())
    known = {text: encode(text) for text in sorted(texts)}
    return lambda text: known[text] if text in known else encode(text)
