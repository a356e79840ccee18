"""The plan of a training, and everything that its next step depends on: weights, memory of the optimiser, losses."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.nn import Parameter

from ..files.tensors import open_tensors, write_tensors
from .distributed import current_group
from .memory.remembered import Memory, is_shared_out, own_names, remember_, remembered
from .optimisers import ADAMW, PRODIGY, WITHOUT_SCHEDULE, ScheduleFree, check_sharded, make_optimiser
from .schedule import warm_cosine

StepLoss = Callable[[int, Generator], Tensor]
_OURS = ("weights", "average")  # parts of a state beside the memory of the optimiser


class TrainingError(ValueError):
    """A training that cannot start or go on; the message is one sentence for the user."""


class FineTuning(Protocol):
    """The numbers of the loop that the plan of a fine-tuning has under their own names."""

    @property
    def steps(self) -> int: ...

    @property
    def seed(self) -> int: ...

    @property
    def lr(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...

    @property
    def warm_up(self) -> int: ...

    @property
    def average(self) -> float: ...

    @property
    def optimiser(self) -> str: ...


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
    optimiser: str = ADAMW  # of `optimisers.OPTIMISERS`
    floor: float = 0.02  # the learning rate at the end, as a share of `lr`
    eps: float = 1e-8  # of AdamW
    is_sharded: bool = False  # of several processes each keeps a part of the optimiser's memory

    def __post_init__(self):
        if self.is_sharded:
            check_sharded(self.optimiser)
        if self.steps < 1 or not self.lr > 0 or not 0 <= self.average < 1 or not self.clip_norm > 0:
            raise TrainingError(
                f"steps {self.steps}, learning rate {self.lr}, average {self.average}, clip norm "
                f"{self.clip_norm}: expected steps >= 1, 0 <= average < 1 and the others above 0"
            )

    @classmethod
    def of(cls, plan: FineTuning) -> "TrainingPlan":
        """The loop's numbers of a fine-tuning, whose second moments remember less than those of a first training."""
        return cls(
            steps=plan.steps,
            seed=plan.seed,
            lr=plan.lr,
            weight_decay=plan.weight_decay,
            warm_up=plan.warm_up,
            average=plan.average,
            betas=(0.9, 0.99),
            optimiser=plan.optimiser,
            clip_norm=math.inf if plan.optimiser == PRODIGY else 1.0,  # which learns from how long gradients are
        )

    def describe(self) -> dict[str, str]:
        """The numbers as texts, for a file's metadata; with them a checkpoint knows whose it is."""
        told = {f"plan.{name}": str(value) for name, value in vars(self).items() if name != "is_sharded"}
        younger = {"optimiser": ADAMW, "floor": 0.02, "eps": 1e-8}  # than the first states, which do not have them
        return {name: value for name, value in told.items() if value != str(younger.get(name.removeprefix("plan.")))}


def described(plan: object) -> dict[str, str]:
    """Every number of a plan, a dataclass, as a text, for a file's header and a checkpoint; those of a dataclass in it
    as `name.part`.
    """
    found: dict[str, str] = {}
    for one in fields(plan):  # type: ignore[arg-type]
        value = getattr(plan, one.name)
        if is_dataclass(value):
            found |= {f"{one.name}.{part}": text for part, text in described(value).items()}
        else:
            found[one.name] = str(value)
    return found


def step_generator(seed: int, step: int) -> Generator:
    """The randomness of one step; steps and seeds do not share streams."""
    return Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 1) % 2**63)


class Relief(Protocol):
    """Who can help a step that failed."""

    def around_step(self) -> AbstractContextManager:
        """What a step's loss and its backward pass are made in."""

    def relieve(self, error: RuntimeError) -> bool:
        """Whether the step can go well now, and is to be made again; in the end it says no."""


class TrainingState:
    """Everything that the next step depends on."""

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        plan: TrainingPlan,
        rates: Mapping[str, float],
        facts: Mapping[str, str],
        decays: Mapping[str, float],
        bounds: Mapping[str, tuple[float, float]],
    ):
        self.parameters, self.plan, self.bounds = dict(parameters), plan, bounds
        self.told = plan.describe() | {f"fact.{name}": value for name, value in facts.items()}
        groups: dict[tuple[float, float], list[Parameter]] = {}
        for name, parameter in self.parameters.items():
            usual = plan.weight_decay if parameter.ndim >= 2 and "embedding" not in name else 0.0
            decay = decays.get(name, usual)
            groups.setdefault((decay, rates.get(name, 1.0)), []).append(parameter)
        groups_of_them = [
            {"params": some, "weight_decay": decay, "rate": rate} for (decay, rate), some in groups.items()
        ]
        self.group = current_group()
        is_sharded = plan.is_sharded and self.group.size > 1
        numbers = plan.optimiser, groups_of_them, plan.lr, plan.betas, plan.eps
        self.optimizer = make_optimiser(*numbers, is_sharded=is_sharded)
        self.losses: list[float] = []
        has_average = plan.average and (self.group.first or not is_sharded)  # which the first alone looks at
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()} if has_average else {}

    def check_together(self) -> None:
        """Refuse processes that have not read the same state."""
        if len(set(self.group.gather(len(self.losses)))) > 1:
            raise TrainingError("the processes found different states: let all of them see the same folder")

    def step_(self, step: int, step_loss: StepLoss, parts: int, relief: Relief | None) -> None:
        plan = self.plan
        rate = 1.0 if plan.optimiser in WITHOUT_SCHEDULE and step >= plan.warm_up else None
        for group in self.optimizer.param_groups:
            warm_up = min(plan.warm_up, plan.steps)
            falling = warm_cosine(step, plan.steps, warm_up, plan.floor) if rate is None else rate
            group["lr"] = plan.lr * group["rate"] * falling
        number = self._relieved_gradients(step, step_loss, parts, relief)
        if not math.isfinite(number):
            raise TrainingError(
                f"the loss became {number} at step {step + 1} of {plan.steps}: lower the learning "
                f"rate, which is {plan.lr:g}"
            )
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), plan.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            for name, (least, most) in self.bounds.items():
                self.parameters[name].clamp_(least, most)
        self.losses.append(number)
        decay = min(plan.average, (1 + step) / (10 + step))  # a short memory at first, when the weights change fast
        for name, tensor in self.average.items():
            tensor.lerp_(self.parameters[name].detach(), 1 - decay)

    def _relieved_gradients(self, step: int, step_loss: StepLoss, parts: int, relief: Relief | None) -> float:
        if relief is None:
            return self._gradients(step, step_loss, parts)
        while True:
            try:
                with relief.around_step():
                    return self._gradients(step, step_loss, parts)
            except RuntimeError as error:
                if not relief.relieve(error):
                    raise

    def _gradients(self, step: int, step_loss: StepLoss, parts: int) -> float:
        """The gradients of a step's batches, from all processes; gives their loss."""
        generator = step_generator(self.plan.seed, step)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for part in range(parts):
            loss = step_loss(step * parts + part, generator) / parts
            if loss.requires_grad:
                loss.backward()
            total = total + loss.detach()
        if self.group.size > 1:
            for parameter in self.parameters.values():
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            self.group.sum_in_order([total, *(p.grad for p in self.parameters.values() if p.grad is not None)])
        return float(total)

    def _result(self) -> dict[str, Tensor]:
        """What the parameters would be as a result, where that is another than they are."""
        means = self.optimizer.means() if isinstance(self.optimizer, ScheduleFree) else {}
        return {name: means[one] for name, one in self.parameters.items() if one in means} | self.average

    @contextmanager
    def as_result(self) -> Iterator[None]:
        """Let the parameters be what they would be as a result, while this is open."""
        result = self._result()
        kept = {name: self.parameters[name].detach().clone() for name in result}
        self._put(result)
        try:
            yield
        finally:
            self._put(kept)

    def use_average_(self) -> None:
        self._put(self._result())

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in values.items():
                self.parameters[name].copy_(tensor)

    def save(self, path: Path) -> None:
        """Write the state, as all processes together must ask for at one step; the first one does it."""
        if is_shared_out(self.optimizer) or self.group.first:
            memory = remembered(self.optimizer, self.parameters)
            if self.group.first:
                self._write(path, memory)

    def save_alone(self, path: Path) -> None:
        """Write the state where something has broken off, if this process has all of it."""
        if not is_shared_out(self.optimizer):
            self._write(path, remembered(self.optimizer, self.parameters))

    def _write(self, path: Path, memory: Memory) -> None:
        tensors = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        for name, parameter in self.parameters.items():
            tensors[f"weights/{name}"] = parameter.detach()
            tensors.update({f"{key}/{name}": value for key, value in memory.get(name, {}).items()})
        tensors.update({f"average/{name}": tensor for name, tensor in self.average.items()})
        on_cpu = {name: tensor.cpu() for name, tensor in tensors.items()}
        write_tensors(path, on_cpu, {"format": "pt", **self.told})

    def read_(self, path: Path) -> None:
        """Go on from a state; of what the optimiser remembers, only this process's own part is read."""
        own = set(own_names(self.optimizer, self.parameters))
        with open_tensors(path) as file:
            expected = {f"weights/{name}": tuple(p.shape) for name, p in self.parameters.items()}
            found = {name: shape for name, shape in file.shapes.items() if name.startswith("weights/")}
            told = {key: value for key, value in file.metadata.items() if key.startswith(("plan.", "fact."))}
            if found != expected or told != self.told:
                raise TrainingError(
                    f"{path.name} is the state of another training than this one ({_differing(told, self.told)}): "
                    "remove it to start anew, or ask for the same training"
                )
            saved = file.read([full for full in file.shapes if self._is_read(*full.partition("/")[::2], own)])
        self.losses = saved["losses"].tolist()
        memories: dict[str, dict[str, Tensor]] = {}
        for (key, _, name), tensor in ((full.partition("/"), tensor) for full, tensor in saved.items()):
            if name and key not in _OURS:
                memories.setdefault(name, {})[key] = tensor
        remember_(self.optimizer, self.parameters, memories)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(saved[f"weights/{name}"])
            for name, tensor in self.average.items():
                tensor.copy_(saved[f"average/{name}"])

    def _is_read(self, part: str, name: str, own: set[str]) -> bool:
        if part == "average":
            return name in self.average
        return part in ("losses", "weights") or name in own


def _differing(saved: Mapping[str, str], asked: Mapping[str, str]) -> str:
    """What two descriptions of trainings have not in common, in words."""
    names = [name for name in {**saved, **asked} if saved.get(name) != asked.get(name)]
    words = [
        f"{name.partition('.')[2]} was {saved.get(name, 'not said')} and is {asked.get(name, 'not said')}"
        for name in names[:3]
    ]
    more = f", and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(words) + more if words else "other sizes"
