"""The one training loop: an optimiser over named parameters, with progress, cancel, seed and resume.

What a step draws at random depends on the seed and the step's number alone, so a training that was interrupted and
resumed ends in the same weights, bit for bit, as one that ran through (on one machine and device, with as many
threads; what a card sums up in no fixed order may differ in the last bits). A card is waited for once a step, for the
loss, which must be a number.

Under several processes (`distributed`) each has a share of a step's loss; gradients are added up in the order of the
processes, so that all go on with the same bits, and the first one writes the state.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.nn import Parameter

from .distributed import GONE, LostProcess, current_group
from .state import Relief, StepLoss, TrainingError, TrainingPlan, TrainingState

OnStep = Callable[[int, int], None]


class StopAndKeep(Exception):
    """Raised by `on_step` to end a training early, with what it has learned so far as its result."""


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a training lies on disk, and how often it is written (it is also written on cancel)."""

    path: Path
    every: int = 200  # steps
    resume: bool = False  # go on from the file, if it is there


class AsResult:
    """Lets a caller of `fit` see the weights as they would be as its result, which a mean of them may be."""

    def __init__(self) -> None:
        self.now: Callable[[], AbstractContextManager] = nullcontext


class Watched:
    """What stands beside the steps of a training, in the first of its processes alone: validations, someone who looks
    on, and what is made of a training that was broken off. `step_loss` and `on_step` go to `fit`, and `losses`.

    every: steps between two validations, the first of which is before any step; 0 leaves them out. on_step: (done, all,
    loss), after the step's validation. on_broken: is called where at least one step was made.
    """

    def __init__(
        self,
        step_loss: StepLoss,
        validate: Callable[[int], None],
        every: int,
        on_step: Callable[[int, int, float], None] | None,
        on_broken: Callable[[list[float]], object] | None,
    ):
        self.losses: list[float] = []
        self._step_loss, self._every = step_loss, every
        self._validate, self._on_step, self._on_broken = validate, on_step, on_broken
        self._first, self._has_begun = current_group().first, False

    def step_loss(self, number: int, generator: Generator) -> Tensor:
        """The loss of a batch; before the first one a validation, also where that step is made twice."""
        if number == 0 and not self._has_begun:
            self._has_begun = True
            self._look(0)
        return self._step_loss(number, generator)

    def on_step(self, done: int, total: int) -> None:
        """Validate where it is time to, and tell who looks on."""
        if self._every and (done % self._every == 0 or done == total):
            self._look(done)
        if self._on_step and self._first:
            self._on_step(done, total, self.losses[-1])

    def _look(self, step: int) -> None:
        if self._every and self._first:
            self._validate(step)

    @contextmanager
    def to_its_end(self) -> Iterator[None]:
        """Make something of a training that does not come to its end in here."""
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if not is_done and self.losses and self._on_broken and self._first:
                self._on_broken(self.losses)


def fit(
    step_loss: StepLoss,
    parameters: Mapping[str, Parameter],
    plan: TrainingPlan,
    *,
    on_step: OnStep | None = None,
    checkpoint: Checkpoint | None = None,
    parts: int = 1,
    rates: Mapping[str, float] | None = None,
    facts: Mapping[str, str] | None = None,
    losses: list[float] | None = None,
    as_result: AsResult | None = None,
    relief: Relief | None = None,
    decays: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> list[float]:
    """Train `parameters` in place, on the device where they are, for `plan.steps` steps, and return every step's loss.

    Works under `torch.inference_mode` too, where ComfyUI runs its nodes, if the parameters were made outside of it.

    Args:
        step_loss: (batch, generator) -> the loss of one batch, a scalar; batches count from 0, and all randomness must
            come from the generator.
        parts: so many batches, drawn one after another from one generator, make a step; the loss is their mean.
        rates: parameter -> factor on the learning rate, for those that have another than 1.
        facts: what else decides the result; a checkpoint of other facts is refused, and what differs is named.
        losses: gets each step's loss, before `on_step`.
        as_result: is told how to see the result so far.
        decays: parameter -> weight decay, for those that have another than the plan's.
        bounds: parameter -> the least and the largest value it may have after a step.
        relief: is asked about a step that failed, as where memory ran out, and whether it is to be made again.
        on_step: called as (done, total) after every step; what it raises stops the training at that step, the state is
            saved, and the exception goes on to the caller, but for StopAndKeep, which ends the training.

    Raises:
        TrainingError: parameters made under inference mode, a loss that is no number, another training's checkpoint.
    """
    _check_trainable(parameters)
    with trainable():
        state = TrainingState(parameters, plan, rates or {}, facts or {}, decays or {}, bounds or {})
        if as_result is not None:
            as_result.now = state.as_result
        if checkpoint and checkpoint.resume and checkpoint.path.exists():
            state.read_(checkpoint.path)
        state.check_together()
        try:
            for step in range(len(state.losses), plan.steps):
                with _saved_if_raised(state, checkpoint):
                    state.step_(step, step_loss, parts, relief)
                if losses is not None:
                    losses.append(state.losses[-1])
                is_due = checkpoint and ((step + 1) % checkpoint.every == 0 or step + 1 == plan.steps)
                if checkpoint and is_due:
                    state.save(checkpoint.path)
                if on_step and _is_told_to_stop(on_step, step + 1, state, checkpoint):
                    break
        finally:
            state.use_average_()
        return state.losses


def _check_trainable(parameters: Mapping[str, Parameter]) -> None:
    if bad := [name for name, parameter in parameters.items() if parameter.is_inference()]:
        raise TrainingError(
            f"{bad[0]} was made under torch.inference_mode and cannot be trained: build the model "
            "inside `with torch.inference_mode(False)`"
        )


_GOES_ON, _STOPS, _BREAKS_OFF = range(3)


def _is_told_to_stop(on_step: OnStep, done: int, state: "TrainingState", checkpoint: Checkpoint | None) -> bool:
    """Whether one of the processes is told to end here; where one breaks off, all save the state together, and end."""
    wish = _BREAKS_OFF
    try:
        on_step(done, state.plan.steps)
        wish = _GOES_ON
    except StopAndKeep:
        wish = _STOPS
    finally:
        wishes = state.group.gather(wish)
        if checkpoint and _BREAKS_OFF in wishes:
            state.save(checkpoint.path)
    if _BREAKS_OFF in wishes:
        raise LostProcess(GONE)
    return _STOPS in wishes


@contextmanager
def trainable() -> Iterator[None]:
    """Gradients on, inference mode off: what training needs, whatever the caller's mode is."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def _saved_if_raised(state: "TrainingState", checkpoint: Checkpoint | None) -> Iterator[None]:
    finished = False
    try:
        yield
        finished = True
    finally:
        if checkpoint and not finished:
            state.save_alone(checkpoint.path)
