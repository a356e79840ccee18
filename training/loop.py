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
) -> list[float]:
    """Train `parameters` in place, on the device where they are, for `plan.steps` steps, and return every step's loss.

    Works under `torch.inference_mode` too, where ComfyUI runs its nodes, if the parameters were made outside of it.

    Args:
        step_loss: (step, generator) -> the loss of one batch, a scalar; steps count from 0, and all randomness must
            come from the generator.
        on_step: called as (done, total) after every step; what it raises stops the training at that step, the state is
            saved, and the exception goes on to the caller.

    Raises:
        TrainingError: parameters made under inference mode, a loss that is no number, another training's checkpoint.
    """
    if bad := [name for name, parameter in parameters.items() if parameter.is_inference()]:
        raise TrainingError(
            f"{bad[0]} was made under torch.inference_mode and cannot be trained: build the model "
            "inside `with torch.inference_mode(False)`"
        )
    with trainable():
        state = _State(parameters, plan)
        if checkpoint and checkpoint.resume and checkpoint.path.exists():
            state.read_(checkpoint.path)
        for step in range(len(state.losses), plan.steps):
            state.step_(step, step_loss)
            if checkpoint and ((step + 1) % checkpoint.every == 0 or step + 1 == plan.steps):
                state.write(checkpoint.path)
            if on_step:
                with _saved_if_raised(state, checkpoint):
                    on_step(step + 1, plan.steps)
        state.use_average_()
        return state.losses


@contextmanager
def trainable() -> Iterator[None]:
    """Gradients on, inference mode off: what training needs, whatever the caller's mode is."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def step_generator(seed: int, step: int) -> Generator:
    """The randomness of one step; steps and seeds do not share streams."""
    return Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 1) % 2**63)


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

    def __init__(self, parameters: Mapping[str, Parameter], plan: TrainingPlan):
        self.parameters, self.plan = dict(parameters), plan
        matrices = [p for name, p in self.parameters.items() if p.ndim >= 2 and "embedding" not in name]
        chosen = {id(p) for p in matrices}
        others = [p for p in self.parameters.values() if id(p) not in chosen]
        groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=plan.lr, betas=plan.betas)
        self.losses: list[float] = []
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()} if plan.average else {}

    def step_(self, step: int, step_loss: StepLoss) -> None:
        plan = self.plan
        for group in self.optimizer.param_groups:
            group["lr"] = plan.lr * warm_cosine(step, plan.steps, min(plan.warm_up, plan.steps))
        self.optimizer.zero_grad(set_to_none=True)
        loss = step_loss(step, step_generator(plan.seed, step))
        number = float(loss.detach())
        if not math.isfinite(number):
            raise TrainingError(
                f"the loss became {number} at step {step + 1} of {plan.steps}: lower the learning "
                f"rate, which is {plan.lr:g}"
            )
        loss.backward()
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
        write_tensors(path, on_cpu, {"format": "pt", **self.plan.describe()})

    def read_(self, path: Path) -> None:
        with open_tensors(path) as file:
            expected = {f"weights/{name}": tuple(p.shape) for name, p in self.parameters.items()}
            found = {name: shape for name, shape in file.shapes.items() if name.startswith("weights/")}
            plan = {key: value for key, value in file.metadata.items() if key.startswith("plan.")}
            if found != expected or plan != self.plan.describe():
                raise TrainingError(
                    f"{path.name} is the state of another training than this one (other sizes or other "
                    "numbers): remove it to start anew, or ask for the same training"
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
