"""What moves the weights: AdamW is torch's; these are from their papers. The names of `OPTIMISERS` are what plans say.

Adafactor (Shazeer and Stern, arXiv 1804.04235) keeps of a matrix's squared gradients the means of its rows and columns
alone; the learning rate is the plan's, not one of its own. Schedule-free AdamW (Defazio et al., arXiv 2405.15682) needs
no falling rate: gradients are taken between the point that moves and the mean of its way, and the mean is the result.
Prodigy (Mishchenko and Defazio, arXiv 2306.06101) finds the learning rate itself; the plan's is a factor on it, 1.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from .distributed import sharded

ADAMW, ADAFACTOR, SCHEDULE_FREE, PRODIGY = "AdamW", "Adafactor", "schedule-free AdamW", "Prodigy"
OPTIMISERS = (ADAMW, ADAFACTOR, SCHEDULE_FREE, PRODIGY)
WITHOUT_SCHEDULE = (SCHEDULE_FREE,)  # whose learning rate stays after the warm-up
SHARDED = (ADAMW, ADAFACTOR)  # whose memory of one parameter asks for no other
ON_THE_CPU = ("step", "total", "d", "r")  # numbers in the memory of an optimiser, which are read at every step
_TINY = 1e-30  # what Adafactor adds to squares


def make_optimiser(
    name: str,
    groups: list[dict],
    lr: float,
    betas: tuple[float, float],
    eps: float = 1e-8,
    *,
    is_sharded: bool = False,
) -> Optimizer:
    """An optimiser over groups of parameters, which say their own weight decay and rate; `eps` is AdamW's.

    Args:
        is_sharded: of several processes each keeps the memory of some parameters alone.

    Raises:
        ValueError: an unknown name, or one whose memory cannot be shared out.
    """
    makers: Mapping[str, type[Optimizer]] = {
        ADAMW: AdamW,
        ADAFACTOR: Adafactor,
        SCHEDULE_FREE: ScheduleFree,
        PRODIGY: Prodigy,
    }
    if name not in makers:
        raise ValueError(f"the optimiser is {name!r}: expected one of {', '.join(OPTIMISERS)}")
    numbers = {"lr": lr, "betas": betas, **({"eps": eps} if name == ADAMW else {})}
    if not is_sharded:
        return makers[name](groups, **numbers)  # type: ignore[arg-type]
    check_sharded(name)
    return sharded(makers[name], groups, numbers)


def check_sharded(name: str) -> None:
    """Raise ValueError for an optimiser whose memory cannot be shared out among processes."""
    if name not in SHARDED:
        raise ValueError(
            f"the optimiser is {name!r}, whose memory cannot be shared out among processes: choose "
            f"{' or '.join(SHARDED)}, or set sharded to false"
        )


class _Own(Optimizer):
    """An optimiser whose whole memory is tensors beside each parameter; a step's number is `step` there."""

    def __init__(self, groups: list[dict], lr: float, betas: tuple[float, float]):
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure=None):
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad.float(), group, self.state[parameter])

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict, state: dict) -> None:
        raise NotImplementedError

    @staticmethod
    def _count(state: dict) -> int:
        """The number of this step, from 1."""
        state["step"] = state.get("step", torch.zeros(())) + 1
        return int(state["step"])


class Adafactor(_Own):
    """Algorithm 4 of the paper, with a given learning rate: update clipping at 1, decay 1 - step^-0.8, no momentum."""

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict, state: dict) -> None:
        decay = 1 - self._count(state) ** -0.8
        squares = gradient.square() + _TINY
        if parameter.ndim > 1:
            flat = squares.flatten(1)
            rows = _mean_of(state, "rows", flat.mean(1), decay)
            columns = _mean_of(state, "columns", flat.mean(0), decay)
            roots = (rows / rows.mean()).rsqrt()[:, None] * columns.rsqrt()  # not of the product, which may be 0
            update = gradient * roots.view_as(gradient)
        else:
            update = gradient * _mean_of(state, "squares", squares, decay).rsqrt()
        update /= (update.square().mean().sqrt()).clamp(min=1.0)
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"])


class ScheduleFree(_Own):
    """The parameter holds y, where gradients are taken; `z` moves; `mean`, that of its way, is what counts.

    y = (1 - b) z + b mean with b the first of the betas; the mean is weighted by the squared learning rate, so that a
    warm-up counts little. Weight decay is at y, as in the authors' experiments.
    """

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict, state: dict) -> None:
        number, lr = self._count(state), group["lr"]
        first, second = group["betas"]
        if number == 1:
            state |= {"z": parameter.clone(), "mean": parameter.clone(), "squares": torch.zeros_like(parameter)}
            state["total"] = torch.zeros((), dtype=torch.float64)
        squares = state["squares"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        update = gradient / ((squares / (1 - second**number)).sqrt() + 1e-8) + group["weight_decay"] * parameter
        state["total"] = state["total"] + lr * lr
        state["z"].sub_(update, alpha=lr)
        state["mean"].lerp_(state["z"], lr * lr / float(state["total"]) if lr else 0.0)
        parameter.copy_(state["mean"].lerp(state["z"], 1 - first))

    def means(self) -> dict[Tensor, Tensor]:
        """What the parameters would be as a result."""
        return {parameter: state["mean"] for parameter, state in self.state.items() if "mean" in state}


class Prodigy(_Own):
    """Algorithm 4 of the paper (Adam's form): the distance to the solution is estimated from below, and is the rate.

    All parameters share the estimate, so that of several learning rates only the ratio to the plan's own counts.
    """

    _FIRST = 1e-6  # the estimate before the first step

    @torch.no_grad()
    def step(self, closure=None):
        """Estimate the distance from all gradients, and move."""
        some = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not some:
            return
        for parameter, _ in some:
            own = self.state[parameter]
            if not own:
                own |= {name: torch.zeros_like(parameter) for name in ("first", "squares", "sums")}
                own |= {"start": parameter.clone(), "d": _exact(self._FIRST), "r": _exact(0.0)}
            self._count(own)
        shared = self.state[some[0][0]]
        d, r = float(shared["d"]), float(shared["r"])
        number = int(shared["step"])
        root = math.sqrt(some[0][1]["betas"][1])
        r, total = root * r, 0.0
        for parameter, group in some:
            own, gradient = self.state[parameter], parameter.grad.float()
            first, second = group["betas"]
            lr = group["lr"] * math.sqrt(1 - second**number) / (1 - first**number)
            own["first"].mul_(first).add_(gradient, alpha=(1 - first) * d)
            own["squares"].mul_(second).addcmul_(gradient, gradient, value=(1 - second) * d * d)
            r += (1 - root) * lr * d * d * float((gradient * (own["start"] - parameter)).sum())
            own["sums"].mul_(root).add_(gradient, alpha=(1 - root) * lr * d * d)
            total += float(own["sums"].abs().sum())
        grown = max(d, r / total) if total else d
        for parameter, group in some:
            own, (first, second) = self.state[parameter], group["betas"]
            lr = group["lr"] * math.sqrt(1 - second**number) / (1 - first**number) * d
            parameter.mul_(1 - lr * group["weight_decay"])
            parameter.addcdiv_(own["first"], own["squares"].sqrt() + d * 1e-8, value=-lr)
            own["d"], own["r"] = _exact(grown), _exact(r)


def _mean_of(state: dict, name: str, value: Tensor, decay: float) -> Tensor:
    state[name] = value if name not in state else state[name].lerp(value, 1 - decay)
    return state[name]


def _exact(number: float) -> Tensor:
    return torch.tensor(number, dtype=torch.float64)
