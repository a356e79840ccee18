"""A VAE is trained: steps, validation on whole pictures, stop and keep, resume, and what came out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ...lora.weights.inject import eject
from ...vae_core.tiling.network import VAENetwork
from ..distributed import current_group
from ..loop import AsResult, Checkpoint, TrainingError, Watched, fit, trainable
from ..record.digest import digest_of
from .course import Course, Pupil, make_pupil
from .judging import Judged, Judges, Look
from .perceptual import Tower
from .pictures import Picture, split
from .plan import VAEPlan
from .stored import Stored, stored_state
from .trainee import VAETrainee

BANDS = ("error", "edges")  # what a validation measures
_MOST_JUDGES = 4  # of the pictures of the training, where none is held out


@dataclass(frozen=True)
class Measured:
    """The validation after a step."""

    step: int
    look: Look


@dataclass(frozen=True, eq=False)
class TrainedVAE:
    """What came of a training. stored: the weights as a file holds them. errors: of each step, each by itself.
    before, after: what whole pictures say, the latter of the stored weights. moved: how far the latents are from those
    that were, in deviations.
    """

    stored: Stored
    losses: list[float]
    errors: list[Mapping[str, float]]
    validation: list[Measured]
    before: Judged
    after: Judged
    moved: float
    trained: int
    held_out: tuple[str, ...]
    is_early: bool = False


@dataclass(frozen=True)
class Hooks:
    """What a caller wants to know. on_step: (done, all, loss, errors) after each step; may raise `StopAndKeep`, or
    anything else to break off. on_validation: told of each, from step 0 on. every: steps between two; 0 leaves them
    out. on_broken: is given what was learned, where something broke the training off after a step or more. tick: called
    where a step takes long, between pictures; may raise.
    """

    on_step: Callable[[int, int, float, Mapping[str, float]], None] | None = None
    on_validation: Callable[[Measured], None] | None = None
    every: int = 50
    on_broken: Callable[[Stored, Sequence[float]], object] | None = None
    tick: Callable[[], None] = lambda: None


def train_vae(
    trainee: VAETrainee,
    pictures: Sequence[Picture],
    plan: VAEPlan,
    *,
    tower: Tower | None = None,
    hooks: Hooks | None = None,
    checkpoint: Checkpoint | None = None,
    dtype: str = "auto",
) -> TrainedVAE:
    """Train a copy of a VAE, which stays as it is.

    Args:
        pictures: at least one, each large enough for the plan's crop.
        tower: looks at the pictures for the perceptual loss.
        checkpoint: where the state lies, so that the training can go on after it was broken off.
        dtype: of the stored decoder, see `stored_state`.

    Raises:
        TrainingError: no picture, a VAE that cannot learn, a loss that is no number, a checkpoint of another training.
    """
    hooks = hooks or Hooks()
    if not pictures:
        raise TrainingError("at least one picture was expected, and there is none: choose another folder")
    if current_group().size > 1:
        raise TrainingError("a VAE is trained by one process: start it without torchrun")
    with trainable():
        reference, learner, judge = (trainee.network() for _ in range(3))
        _check_crop(reference, plan)
        held_out, others = split(pictures, plan.held_out, plan.seed)
        judges = Judges(trainee, reference, held_out or others[:_MOST_JUDGES], hooks.tick)
        before = judges.before(reference, hooks.tick)
        pupil = make_pupil(learner, plan)
        try:
            course = Course(pupil, reference, others, plan, judges.deviations(), tower)
            work = _Work(trainee, course, judges, judge, hooks, before, dtype)
            return work.run(checkpoint, tuple(one.name for one in held_out))
        finally:
            eject(learner)


def _check_crop(network: VAENetwork, plan: VAEPlan) -> None:
    if plan.crop_px % network.config.factor:
        factor = network.config.factor
        near = max(factor, round(plan.crop_px / factor) * factor)
        raise TrainingError(
            f"the crop is {plan.crop_px} px, and a cell of this VAE spans {factor} px: set it to a multiple, as {near}"
        )


class _Work:
    """One training: the course, the judges, and what was seen on the way."""

    def __init__(
        self,
        trainee: VAETrainee,
        course: Course,
        judges: Judges,
        judge: VAENetwork,
        hooks: Hooks,
        before: Judged,
        dtype: str,
    ):
        self.trainee, self.course, self.judges, self.judge = trainee, course, judges, judge
        self.hooks, self.before, self.dtype = hooks, before, dtype
        self.measured: list[Measured] = []
        self.errors: list[Mapping[str, float]] = []
        self.as_result = AsResult()
        self._sums: dict[str, Tensor] = {}  # of the errors of a step's batches
        self._watched = Watched(self._step_loss, self._validate, hooks.every, self._told, self._broken)

    def run(self, checkpoint: Checkpoint | None, held_out: tuple[str, ...]) -> TrainedVAE:
        plan, pupil = self.course.plan, self.course.pupil
        with self._watched.to_its_end():
            losses = fit(
                self._watched.step_loss,
                pupil.parameters,
                plan.loop(),
                on_step=self._on_step,
                checkpoint=checkpoint,
                parts=plan.accumulate,
                rates=self.course.rates(),
                facts=plan.describe() | self._facts(),
                losses=self._watched.losses,
                as_result=self.as_result,
            )
        stored = self._stored(pupil)
        self.judge.load_state_dict(stored.state)
        after, moved = self.judges.after(self.judge, self.hooks.tick)
        trained = sum(one.numel() for one in pupil.parameters.values())
        return TrainedVAE(
            *(stored, losses, self.errors, self.measured, self.before, after, moved, trained, held_out),
            is_early=len(losses) < plan.steps,
        )

    def _stored(self, pupil: Pupil) -> Stored:
        return stored_state(self.trainee.state, pupil.state(), self.course.plan.part, self.dtype)

    def _step_loss(self, number: int, generator: Generator) -> Tensor:
        loss = self.course.loss(number, generator)
        place, parts = number % self.course.plan.accumulate, self.course.plan.accumulate
        found = {name: error / parts for name, error in self.course.errors.items()}
        self._sums = found if place == 0 else {name: self._sums[name] + error for name, error in found.items()}
        return loss

    def _on_step(self, done: int, total: int) -> None:
        names = list(self._sums)
        values = torch.stack([self._sums[name].float() for name in names]).tolist()
        self.errors.append(dict(zip(names, values)))
        self._watched.on_step(done, total)

    def _told(self, done: int, total: int, loss: float) -> None:
        if self.hooks.on_step:
            self.hooks.on_step(done, total, loss, self.errors[-1])

    def _broken(self, losses: list[float]) -> None:
        if self.hooks.on_broken:
            self.hooks.on_broken(self._stored(self.course.pupil), losses)

    def _validate(self, step: int) -> None:
        with self.as_result.now():
            self.judge.load_state_dict(self.course.pupil.state())
        self.measured.append(Measured(step, self.judges.look(self.judge, self.before.worst(), self.hooks.tick)))
        if self.hooks.on_validation:
            self.hooks.on_validation(self.measured[-1])

    def _facts(self) -> dict[str, str]:
        """The data, the VAE and the CLIP, for the checkpoint."""
        course = self.course
        everything = [(one.name, one.digest, one.repeats) for one in (*course.pictures, *self.judges.pictures)]
        names = "\n".join(f"{name}\0{digest}\0{repeats}" for name, digest, repeats in everything)
        facts = {
            "data": digest_of([torch.frombuffer(bytearray(names.encode()), dtype=torch.uint8)])[:16],
            "vae": digest_of(course.reference.state_dict())[:16],
        }
        return facts | ({"clip": course.tower.digest()[:16]} if course.tower and course.plan.weights.perceptual else {})
