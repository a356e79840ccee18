"""A LoRA is trained on a model: steps, validation with fixed noise, stop and keep, resume, and what came out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Generator

from ...lora.kinds.adapters import Adapter, on_device
from ...lora.weights.inject import Injection, collect, eject, inject, learned, set_training
from ..loop import AsResult, Checkpoint, TrainingError, Watched, fit, trainable
from .course import NO_GRADIENT, Course, Measured, Picture
from .data.prompts import Encode
from .plan import LoRAPlan
from .recomputing import AUTO, ON, Recomputing
from .targets import KINDS, chosen_layers, targets_of
from .trainee import Trainee

_NO_BACKWARD = (  # how torch says that an operation cannot be differentiated
    "does not require grad",
    "Inference tensors cannot be saved for backward",
    "is not implemented for",
    "Trying to backward through",
    "not differentiable",
)


@dataclass(frozen=True, eq=False)
class TrainedLoRA:
    """What came of a training. adapters: under the names of the network's layers, on the CPU, float32."""

    adapters: dict[str, Adapter]
    losses: list[float]
    validation: list[Measured]
    layers: tuple[str, ...]
    trained: int
    is_early: bool = False
    held_out: tuple[str, ...] = ()
    sizes_in_cells: Mapping[str, int] = field(default_factory=dict)  # size -> pictures trained on
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hooks:
    """What a caller wants to know. on_step: (done, all, the step's loss) after each step; may raise `StopAndKeep`, or
    anything else to break off. on_validation: told of each; look: then shown the course itself, to sample from the
    model as it is. every: steps between two validations; 0 leaves them out. on_broken: is given what was
    learned, where at least one step was made before something broke the training off.
    """

    on_step: Callable[[int, int, float], None] | None = None
    on_validation: Callable[[Measured], None] | None = None
    every: int = 50
    on_broken: Callable[["TrainedLoRA"], object] | None = None
    look: Callable[[Measured, "Course"], None] | None = None


def train_lora(
    trainee: Trainee,
    pictures: Sequence[Picture],
    encode: Encode,
    plan: LoRAPlan,
    *,
    hooks: Hooks | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainedLoRA:
    """Train a LoRA beside the chosen layers of a model, which is as it was at the end.

    Args:
        trainee: the model, ready for training.
        pictures: at least one.
        encode: text -> conditioning, as the model is told prompts.
        plan: all numbers.
        checkpoint: where the state lies, so that the training can go on after it was broken off.

    Raises:
        TrainingError: no picture, a loss that is no number, a checkpoint of another training.
        TargetError, LoRAError, ValueError: a plan that does not fit the model.
    """
    hooks = hooks or Hooks()
    with trainable():
        course = Course(trainee, pictures, encode, plan)
        layers = chosen_layers(trainee.network, targets_of(plan.kind, plan.targets), plan.blocks, plan.rank)
        injection = inject(
            trainee.network,
            list(layers),
            plan.rank,
            plan.alpha,
            dropout=plan.dropout,
            generator=Generator().manual_seed(plan.seed),
            kind=KINDS[plan.kind],
        )
        set_training(trainee.network, True)
        recomputing = Recomputing(plan.recompute == ON, plan.recompute == AUTO, trainee.relief)
        try:
            with recomputing.over(trainee.network):
                return _trained(course, injection, hooks, checkpoint, recomputing)
        finally:
            eject(trainee.network)


def _trained(
    course: Course, injection: Injection, hooks: Hooks, checkpoint: Checkpoint | None, recomputing: Recomputing
) -> TrainedLoRA:
    plan, as_result = course.plan, AsResult()
    parameters = learned(course.trainee.network, injection.names)
    measured: list[Measured] = []

    def validate(step: int) -> None:
        with as_result.now():
            measured.append(course.measure(step))
            if hooks.look:
                hooks.look(measured[-1], course)
        if hooks.on_validation:
            hooks.on_validation(measured[-1])

    def broken(losses: list[float]) -> None:
        if hooks.on_broken:
            hooks.on_broken(_result(course, injection, losses, measured))

    watched = Watched(course.loss, validate, hooks.every, hooks.on_step, broken)
    with watched.to_its_end(), _differentiable():
        losses = fit(
            watched.step_loss,
            parameters,
            plan.loop(),
            on_step=watched.on_step,
            checkpoint=checkpoint,
            parts=plan.accumulate,
            rates={name: plan.lora_plus for name in parameters if name.endswith(".up") and plan.lora_plus != 1},
            facts=plan.describe() | course.facts(),
            losses=watched.losses,
            as_result=as_result,
            relief=recomputing,
        )
    return _result(course, injection, losses, measured)


@contextmanager
def _differentiable() -> Iterator[None]:
    """Say in a sentence where a model cannot be differentiated."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if any(mark in str(error) for mark in _NO_BACKWARD):
            raise TrainingError(NO_GRADIENT) from error
        raise


def _result(course: Course, injection: Injection, losses: list[float], measured: list[Measured]) -> TrainedLoRA:
    """What the adapters hold now, as what came of the training."""
    return TrainedLoRA(
        {name: on_device(adapter, "cpu") for name, adapter in collect(course.trainee.network).items()},
        losses,
        measured,
        injection.names,
        injection.trained,
        is_early=len(losses) < course.plan.steps,
        held_out=tuple(picture.name for picture in course.held_out),
        sizes_in_cells=course.sizes(),
        notes=tuple(course.trainee.notes),
    )
