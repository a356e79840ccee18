"""The one training loop: AdamW over named parameters, with progress, cancel, seed and resume.

What a step draws at random depends on the seed and the step's number alone, so a training that was interrupted and
resumed ends in the same weights, bit for bit, as one that ran through (on one machine and device, with as many
threads; what a card sums up in no fixed order may differ in the last bits). A card is waited for once a step, for the
loss, which must be a number.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.nn import Parameter

from ..files.tensors import open_tensors, write_tensors
from .schedule import warm_cosine

StepLoss = Callable[[int, Generator], Tensor]
OnStep = Callable[[int, int], None]
_MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's state for each parameter, beside its "step"


class TrainingError(ValueError):
    """A training that cannot start or go on; the message is one sentence for the user."""


class StopAndKeep(Exception):
    """Raised by `on_step` to end a training early, with what it has learned so far as its result."""


@dataclass(frozen=True)
class TrainingPlan:
    """How to train: the numbers that, with the step's loss and the start, decide the result."""

    steps: int
    seed: int
    lr: float
    weight_decay: float = 0.0  # on matrices and kernels, not on vectors, scalars and embeddings
    warm_up: int = 100
    clip_norm: float = 1.0  # longest gradient, all parameters together
    average: float = 0.0  # > 0: the result is the exponential moving average of the weights, with this decay
    betas: tuple[float, float] = (0.9, 0.98)

    def __post_init__(self):
        if self.steps < 1 or not self.lr > 0 or not 0 <= self.average < 1 or not self.clip_norm > 0:
            raise TrainingError(
                f"steps {self.steps}, learning rate {self.lr}, average {self.average}, clip norm "
                f"{self.clip_norm}: expected steps >= 1, 0 <= average < 1 and the others above 0"
            )

    def describe(self) -> dict[str, str]:
        """The numbers as texts, for a file's metadata; with them a checkpoint knows whose it is."""
        return {f"plan.{name}": str(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a training lies on disk, and how often it is written (it is also written on cancel)."""

    path: Path
    every: int = 200  # steps
    resume: bool = False  # go on from the file, if it is there


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
        on_step: called as (done, total) after every step; what it raises stops the training at that step, the state is
            saved, and the exception goes on to the caller, but for StopAndKeep, which ends the training.

    Raises:
        TrainingError: parameters made under inference mode, a loss that is no number, another training's checkpoint.
    """
    if bad := [name for name, parameter in parameters.items() if parameter.is_inference()]:
        raise TrainingError(
            f"{bad[0]} was made under torch.inference_mode and cannot be trained: build the model "
            "inside `with torch.inference_mode(False)`"
        )
    with trainable():
        state = _State(parameters, plan, rates or {}, facts or {})
        if checkpoint and checkpoint.resume and checkpoint.path.exists():
            state.read_(checkpoint.path)
        for step in range(len(state.losses), plan.steps):
            with _saved_if_raised(state, checkpoint):
                state.step_(step, step_loss, parts)
            if losses is not None:
                losses.append(state.losses[-1])
            if checkpoint and ((step + 1) % checkpoint.every == 0 or step + 1 == plan.steps):
                state.write(checkpoint.path)
            if on_step and _is_told_to_stop(on_step, step + 1, state, checkpoint):
                break
        state.use_average_()
        return state.losses


def _is_told_to_stop(on_step: OnStep, done: int, state: "_State", checkpoint: Checkpoint | None) -> bool:
    try:
        with _saved_if_raised(state, checkpoint):
            on_step(done, state.plan.steps)
    except StopAndKeep:
        return True
    return False


@contextmanager
def trainable() -> Iterator[None]:
    """Gradients on, inference mode off: what training needs, whatever the caller's mode is."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def step_generator(seed: int, step: int) -> Generator:
    """The randomness of one step; steps and seeds do not share streams."""
    return Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 1) % 2**63)


def _differing(saved: Mapping[str, str], asked: Mapping[str, str]) -> str:
    """What two descriptions of trainings have not in common, in words."""
    names = [name for name in {**saved, **asked} if saved.get(name) != asked.get(name)]
    words = [
        f"{name.partition('.')[2]} was {saved.get(name, 'not said')} and is {asked.get(name, 'not said')}"
        for name in names[:3]
    ]
    more = f", and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(words) + more if words else "other sizes"


@contextmanager
def _saved_if_raised(state: "_State", checkpoint: Checkpoint | None) -> Iterator[None]:
    finished = False
    try:
        yield
        finished = True
    finally:
        if checkpoint and not finished:
            state.write(checkpoint.path)


class _State:
    """Everything that the next step depends on."""

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        plan: TrainingPlan,
        rates: Mapping[str, float],
        facts: Mapping[str, str],
    ):
        self.parameters, self.plan = dict(parameters), plan
        self.told = plan.describe() | {f"fact.{name}": value for name, value in facts.items()}
        groups: dict[tuple[float, float], list[Parameter]] = {}
        for name, parameter in self.parameters.items():
            decay = plan.weight_decay if parameter.ndim >= 2 and "embedding" not in name else 0.0
            groups.setdefault((decay, rates.get(name, 1.0)), []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": some, "weight_decay": decay, "rate": rate} for (decay, rate), some in groups.items()],
            lr=plan.lr,
            betas=plan.betas,
        )
        self.losses: list[float] = []
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()} if plan.average else {}

    def step_(self, step: int, step_loss: StepLoss, parts: int) -> None:
        plan, generator = self.plan, step_generator(self.plan.seed, step)
        for group in self.optimizer.param_groups:
            group["lr"] = plan.lr * group["rate"] * warm_cosine(step, plan.steps, min(plan.warm_up, plan.steps))
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for part in range(parts):
            loss = step_loss(step * parts + part, generator) / parts
            loss.backward()
            total = total + loss.detach()
        number = float(total)
        if not math.isfinite(number):
            raise TrainingError(
                f"the loss became {number} at step {step + 1} of {plan.steps}: lower the learning "
                f"rate, which is {plan.lr:g}"
            )
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), plan.clip_norm)
        self.optimizer.step()
        self.losses.append(number)
        decay = min(plan.average, (1 + step) / (10 + step))  # a short memory at first, when the weights change fast
        for name, tensor in self.average.items():
            tensor.lerp_(self.parameters[name].detach(), 1 - decay)

    def use_average_(self) -> None:
        with torch.no_grad():
            for name, tensor in self.average.items():
                self.parameters[name].copy_(tensor)

    def write(self, path: Path) -> None:
        tensors = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        for name, parameter in self.parameters.items():
            tensors[f"weights/{name}"] = parameter.detach()
            moments = self.optimizer.state.get(parameter, {})
            tensors.update({f"{key}/{name}": moments[key] for key in (*_MOMENTS, "step") if key in moments})
        tensors.update({f"average/{name}": tensor for name, tensor in self.average.items()})
        on_cpu = {name: tensor.cpu() for name, tensor in tensors.items()}
        write_tensors(path, on_cpu, {"format": "pt", **self.told})

    def read_(self, path: Path) -> None:
        with open_tensors(path) as file:
            expected = {f"weights/{name}": tuple(p.shape) for name, p in self.parameters.items()}
            found = {name: shape for name, shape in file.shapes.items() if name.startswith("weights/")}
            told = {key: value for key, value in file.metadata.items() if key.startswith(("plan.", "fact."))}
            if found != expected or told != self.told:
                raise TrainingError(
                    f"{path.name} is the state of another training than this one ({_differing(told, self.told)}): "
                    "remove it to start anew, or ask for the same training"
                )
            saved = file.read(file.shapes)
        self.losses = saved["losses"].tolist()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(saved[f"weights/{name}"])
                if f"step/{name}" in saved:
                    self.optimizer.state[parameter] = {
                        "step": saved[f"step/{name}"],  # on the CPU, as AdamW keeps it: it is read at every step
                        **{key: saved[f"{key}/{name}"].to(parameter.device) for key in _MOMENTS},
                    }
            for name, tensor in self.average.items():
                tensor.copy_(saved[f"average/{name}"])
