"""A LoRA is trained on a model: steps, validation with fixed noise, stop and keep, resume, and what came out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor
from torch.nn import Parameter

from ...lora.kinds.adapters import LoRA
from ...lora.weights.inject import CHILD, collect, eject, inject, set_training
from ..loop import Checkpoint, fit, trainable
from .course import Course, Measured, Picture
from .plan import LoRAPlan
from .prompts import Encode
from .targets import chosen_layers
from .trainee import Trainee


@dataclass(frozen=True, eq=False)
class TrainedLoRA:
    """What came of a training. adapters: under the names of the network's layers, on the CPU, float32."""

    adapters: dict[str, LoRA]
    losses: list[float]
    validation: list[Measured]
    layers: tuple[str, ...]
    trained: int
    is_early: bool = False
    held_out: tuple[str, ...] = ()
    sizes_in_cells: Mapping[str, int] = field(default_factory=dict)  # size -> pictures trained on


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
        layers = chosen_layers(trainee.network, plan.targets, plan.blocks, plan.rank)
        injection = inject(
            trainee.network,
            list(layers),
            plan.rank,
            plan.alpha,
            dropout=plan.dropout,
            generator=Generator().manual_seed(plan.seed),
        )
        set_training(trainee.network, True)
        try:
            return _trained(course, injection.names, injection.trained, hooks, checkpoint)
        finally:
            eject(trainee.network)


def _trained(
    course: "Course", names: tuple[str, ...], trained: int, hooks: Hooks, checkpoint: Checkpoint | None
) -> TrainedLoRA:
    network, plan = course.trainee.network, course.plan
    parameters = _parameters(network, names)
    measured: list[Measured] = []
    so_far: list[float] = []

    def validate(step: int) -> None:
        measured.append(course.measure(step))
        if hooks.on_validation:
            hooks.on_validation(measured[-1])
        if hooks.look:
            hooks.look(measured[-1], course)

    def step_loss(number: int, generator: Generator) -> Tensor:
        if hooks.every and number == 0:
            validate(0)
        return course.loss(number, generator)

    def on_step(done: int, total: int) -> None:
        if hooks.every and (done % hooks.every == 0 or done == total):
            validate(done)
        if hooks.on_step:
            hooks.on_step(done, total, so_far[-1])

    def result(losses: list[float]) -> TrainedLoRA:
        adapters = {name: LoRA(lora.up.cpu(), lora.down.cpu(), lora.alpha) for name, lora in collect(network).items()}
        held_out = tuple(picture.name for picture in course.held_out)
        is_early = len(losses) < plan.steps
        return TrainedLoRA(adapters, losses, measured, names, trained, is_early, held_out, course.sizes())

    is_done = False
    try:
        losses = fit(
            step_loss,
            parameters,
            plan.loop(),
            on_step=on_step,
            checkpoint=checkpoint,
            parts=plan.accumulate,
            rates={name: plan.lora_plus for name in parameters if name.endswith(".up") and plan.lora_plus != 1},
            facts=plan.describe() | course.facts(),
            losses=so_far,
        )
        is_done = True
    finally:
        if not is_done and so_far and hooks.on_broken:
            hooks.on_broken(result(so_far))
    return result(losses)


def _parameters(network: torch.nn.Module, names: Iterable[str]) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for name in names:
        low_rank = getattr(network.get_submodule(name), CHILD)
        found |= {f"{name}.down": low_rank.down, f"{name}.up": low_rank.up}
    return found
