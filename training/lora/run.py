"""A LoRA is trained on a model: steps, validation with fixed noise, stop and keep, resume, and what came out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from torch import Generator, nn
from torch.nn import Parameter

from ...lora.kinds.adapters import Adapter, on_device
from ...lora.weights.inject import Injection, collect, eject, inject, learned, set_training
from ..loop import AsResult, Checkpoint, TrainingError, Watched, fit, trainable
from ..memory.recomputing import AUTO, ON, Recomputing
from .course import NO_GRADIENT, Course, Measured, Picture
from .data.prompts import Encode
from .plan import LoRAPlan
from .targets import KINDS, chosen_of_both, targets_of
from .trainee import Trainee, networks_of

_NO_BACKWARD = (  # how torch says that an operation cannot be differentiated
    "does not require grad",
    "Inference tensors cannot be saved for backward",
    "is not implemented for",
    "Trying to backward through",
    "not differentiable",
)


_OF_TEXT = "text."  # in front of the names of what learns in the text encoder


@dataclass(frozen=True, eq=False)
class TrainedLoRA:
    """What came of a training. adapters: under the names of the network's layers, on the CPU, float32; text_adapters:
    those of a text encoder that learned.
    """

    adapters: dict[str, Adapter]
    losses: list[float]
    validation: list[Measured]
    layers: tuple[str, ...]
    trained: int
    is_early: bool = False
    held_out: tuple[str, ...] = ()
    sizes_in_cells: Mapping[str, int] = field(default_factory=dict)  # size -> pictures trained on
    notes: tuple[str, ...] = ()
    text_adapters: dict[str, Adapter] = field(default_factory=dict)


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
    """Train a LoRA beside the chosen layers of a model, and of the text encoder that learns with it; both are as they
    were at the end.

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
        targets = targets_of(plan.kind, plan.targets)
        layers = chosen_of_both(trainee.network, trainee.text, targets, plan.blocks, plan.rank)
        generator = Generator().manual_seed(plan.seed)
        recomputing = Recomputing(plan.recompute == ON, plan.recompute == AUTO, trainee.relief)
        with ExitStack() as stack:
            injections = [
                stack.enter_context(_injected(network, list(own), plan, generator))
                for network, own in zip(networks_of(trainee), layers)
            ]
            for network in networks_of(trainee):
                stack.enter_context(recomputing.over(network))
            return _trained(course, injections, hooks, checkpoint, recomputing)


@contextmanager
def _injected(network: nn.Module, layers: list[str], plan: LoRAPlan, generator: Generator) -> Iterator[Injection]:
    """Put adapters that learn beside the layers, for as long as this is open."""
    kind = KINDS[plan.kind]
    injection = inject(network, layers, plan.rank, plan.alpha, dropout=plan.dropout, generator=generator, kind=kind)
    try:
        set_training(network, True)
        yield injection
    finally:
        eject(network)


def _learned(course: Course, injections: Sequence[Injection]) -> tuple[dict[str, Parameter], dict[str, float]]:
    """What learns, by name, and the factors on the learning rate of what does not learn at the plan's own."""
    plan, parameters, rates = course.plan, {}, {}
    fronts = ("", _OF_TEXT)
    for network, injection, front in zip(networks_of(course.trainee), injections, fronts):
        for name, one in learned(network, injection.names).items():
            rate = (plan.text_encoder_rate if front else 1.0) * (plan.lora_plus if name.endswith(".up") else 1.0)
            parameters[front + name] = one
            if rate != 1:
                rates[front + name] = rate
    return parameters, rates


def _trained(
    course: Course,
    injections: Sequence[Injection],
    hooks: Hooks,
    checkpoint: Checkpoint | None,
    recomputing: Recomputing,
) -> TrainedLoRA:
    plan, as_result = course.plan, AsResult()
    parameters, rates = _learned(course, injections)
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
            hooks.on_broken(_result(course, injections, losses, measured))

    watched = Watched(course.loss, validate, hooks.every, hooks.on_step, broken)
    with watched.to_its_end(), _differentiable():
        losses = fit(
            watched.step_loss,
            parameters,
            plan.loop(),
            on_step=watched.on_step,
            checkpoint=checkpoint,
            parts=plan.accumulate,
            rates=rates,
            facts=plan.describe() | course.facts(),
            losses=watched.losses,
            as_result=as_result,
            relief=recomputing,
        )
    return _result(course, injections, losses, measured)


@contextmanager
def _differentiable() -> Iterator[None]:
    """Say in a sentence where a model cannot be differentiated."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if any(mark in str(error) for mark in _NO_BACKWARD):
            raise TrainingError(NO_GRADIENT) from error
        raise


def _result(
    course: Course, injections: Sequence[Injection], losses: list[float], measured: list[Measured]
) -> TrainedLoRA:
    """What the adapters hold now, as what came of the training."""
    adapters = [
        {name: on_device(adapter, "cpu") for name, adapter in collect(network).items()}
        for network in networks_of(course.trainee)
    ]
    return TrainedLoRA(
        adapters[0],
        losses,
        measured,
        injections[0].names,
        sum(injection.trained for injection in injections),
        is_early=len(losses) < course.plan.steps,
        held_out=tuple(picture.name for picture in course.held_out),
        sizes_in_cells=course.sizes(),
        notes=tuple(course.trainee.notes),
        text_adapters=adapters[1] if len(adapters) > 1 else {},
    )
