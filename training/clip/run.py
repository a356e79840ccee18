"""A CLIP is trained: its weights or a LoRA beside them; steps, validation, stop and keep, resume, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from torch import Generator, Tensor
from torch.nn import Parameter

from ...clip_core.networks.clip import CLIP
from ...lora.kinds.adapters import Adapter, on_device
from ...lora.weights.inject import collect, eject, inject, learned, set_training
from ..device import products_in
from ..distributed import current_group
from ..loop import AsResult, Checkpoint, Watched, fit, trainable
from ..losses import LARGEST_SCALE
from ..memory.recomputing import AUTO, ON, Recomputing
from ..recipes.clip import attention_at_few_tokens
from ..record.digest import digest_of
from .course import ClipCourse
from .data.examples import Prepared
from .judging import Measured
from .objective import SIGMOID
from .plan import ClipPlan
from .targets import SCALE, lora_layers, rates, scale_parameters, trained_parameters
from .towers import Towers, called_by_layers


@dataclass(frozen=True, eq=False)
class TrainedCLIP:
    """What came of a training. start, end: the weights that were trained, before and after, on the CPU; adapters: under
    the names of the layers, of a LoRA.
    """

    start: dict[str, Tensor]
    end: dict[str, Tensor]
    adapters: dict[str, Adapter]
    losses: list[float]
    validation: list[Measured]
    steps: int  # asked for
    trained: int  # numbers
    held_out: tuple[str, ...]
    judged: tuple[int, bool]  # pictures that judged, and whether they were held out
    cut: Mapping[str, int] = field(default_factory=dict)  # texts that are too long -> tokens that were cut

    @property
    def is_early(self) -> bool:
        """Whether it ended before its last step."""
        return len(self.losses) < self.steps


@dataclass(frozen=True)
class ClipHooks:
    """What a caller wants to know. on_step: (done, all, the step's loss); may raise `StopAndKeep`, or anything else to
    break off. on_validation: told of each. every: steps between two of them; 0 leaves them out, None: a tenth of all.
    on_broken: is given what was learned, where a step was made before something broke the training off.
    """

    on_step: Callable[[int, int, float], None] | None = None
    on_validation: Callable[[Measured], None] | None = None
    every: int | None = None
    on_broken: Callable[[TrainedCLIP], object] | None = None


def train_clip(
    towers: Towers,
    prepared: Prepared,
    plan: ClipPlan,
    *,
    hooks: ClipHooks | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainedCLIP:
    """Train a CLIP in place, or with a rank a LoRA beside its layers, which leaves it as it was.

    Args:
        towers: the model, in float32, made outside of inference mode.
        checkpoint: where the state lies, so that the training can go on after it was broken off.

    Raises:
        TrainingError: data that nothing can be learned from, a loss that is no number, another training's state.
        ClipTargetError, LoRAError: nothing to train. LostProcess: another process has ended.
    """
    hooks, model = hooks or ClipHooks(), towers.model
    with trainable(), called_by_layers(model), attention_at_few_tokens(towers.device):
        course = ClipCourse(towers, prepared, plan)
        start = digest_of(model.state_dict())
        recomputing = _recomputing(towers, plan)
        with _prepared(model, plan) as parameters, recomputing.over(model):
            return _trained(course, parameters, hooks, checkpoint, start, recomputing)


def _recomputing(towers: Towers, plan: ClipPlan) -> Recomputing:
    """Whether blocks are computed twice. Of several processes none turns it on by itself: a step that one of them makes
    again would wait for the others in another place than they wait for it.
    """
    may_turn_on = plan.checkpointing == AUTO and current_group().size == 1
    products = partial(products_in, towers.precision, towers.device)
    return Recomputing(plan.checkpointing == ON, may_turn_on, products=products)


@contextmanager
def _prepared(model: CLIP, plan: ClipPlan) -> Iterator[dict[str, Parameter]]:
    """Have what the plan trains, and nothing else, take gradients; and the model as before at the end."""
    before = {name: one.requires_grad for name, one in model.named_parameters()}
    try:
        if plan.rank:
            names = lora_layers(model, plan)
            generator = Generator().manual_seed(plan.seed)
            inject(model, names, plan.rank, plan.alpha, dropout=plan.dropout, generator=generator, kind=plan.kind)
            set_training(model, True)
            found = learned(model, names) | scale_parameters(model, plan)
        else:
            found = trained_parameters(model, plan)
            model.requires_grad_(False)
        for one in found.values():
            one.requires_grad_(True)
        yield found
    finally:
        eject(model)
        for name, one in model.named_parameters():
            one.requires_grad_(before[name])


def _trained(
    course: ClipCourse,
    parameters: dict[str, Parameter],
    hooks: ClipHooks,
    checkpoint: Checkpoint | None,
    start_digest: str,
    recomputing: Recomputing,
) -> TrainedCLIP:
    plan, model, as_result = course.plan, course.towers.model, AsResult()
    own = {} if plan.rank else parameters
    own |= scale_parameters(model, plan)
    start = {name: one.detach().cpu().clone() for name, one in own.items()}
    measured: list[Measured] = []
    every = max(1, course.steps // 10) if hooks.every is None else hooks.every

    def validate(step: int) -> None:
        with as_result.now():
            measured.append(course.measure(step))
        if hooks.on_validation:
            hooks.on_validation(measured[-1])

    def result(losses: list[float]) -> TrainedCLIP:
        return _result(course, start, own, parameters, losses, measured)

    def broken(losses: list[float]) -> None:
        if hooks.on_broken:
            hooks.on_broken(result(losses))

    watched = Watched(course.loss, validate, every, hooks.on_step, broken)
    with watched.to_its_end():
        losses = fit(
            watched.step_loss,
            parameters,
            plan.loop(course.steps),
            on_step=watched.on_step,
            checkpoint=checkpoint,
            rates=rates(model, parameters, plan.layer_decay),
            decays={name: plan.weight_decay for name, one in parameters.items() if one.ndim >= 2},
            bounds={SCALE: (0.0, LARGEST_SCALE)} if SCALE in parameters and plan.loss != SIGMOID else {},
            facts=plan.decisive() | course.facts() | {"start": start_digest[:16]},
            losses=watched.losses,
            as_result=as_result,
            relief=recomputing,
        )
    return result(losses)


def _result(
    course: ClipCourse,
    start: dict[str, Tensor],
    own: Mapping[str, Parameter],
    parameters: Mapping[str, Parameter],
    losses: Sequence[float],
    measured: list[Measured],
) -> TrainedCLIP:
    """What the model holds now, as what came of the training. `own`: those of the parameters that are the model's."""
    return TrainedCLIP(
        start,
        {name: one.detach().cpu().clone() for name, one in own.items()},
        {name: on_device(one, "cpu") for name, one in collect(course.towers.model).items()},
        list(losses),
        measured,
        course.steps,
        sum(one.numel() for one in parameters.values()),
        tuple(course.examples[place].name for place in course.held_out),
        (len(course.judges()), bool(course.held_out)),
        course.cut,
    )
