"""The plan of a CLIP training: every number that, with the data and the start, decides the result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ...lora.weights.trainable import TRAINABLE
from ..memory.recomputing import AUTO
from ..memory.recomputing import WAYS as WAYS_TO_RECOMPUTE
from ..optimisers import ADAMW, OPTIMISERS, check_sharded
from ..state import TrainingPlan, described
from .augment import Augmentation
from .objective import CONTRASTIVE, LOSSES

BOTH, TEXT, IMAGE = "both", "text", "image"
TOWERS = (BOTH, TEXT, IMAGE)
LAYERS = {  # of a LoRA -> the ends of their names
    "q, k, v": ("q_proj", "k_proj", "v_proj"),
    "attention": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "linear": ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
}
PRECISIONS = ("float32", "bfloat16")
_LEAST = dict.fromkeys(("steps", "epochs", "shots_steps", "warm_up", "weight_decay", "rank"), 0)
_LEAST |= {"batch": 2, "at_once": 1}
_SAVES_MEMORY = ("checkpointing", "sharded")


@dataclass(frozen=True)
class ClipPlan:
    """How a CLIP is trained.

    steps: of the optimiser; 0: so many that every picture is seen `epochs` times, or, with shots_steps, so many times
    the pictures of a class. batch pictures make a step, `at_once` of them are computed together. lr: reached after
    warm_up steps, and falling on a cosine to its share `floor`. weight_decay: on matrices and kernels. average: decay
    of the exponential mean of what is trained, which is then the result; 0: off. layer_decay: factor on the learning
    rate from each block to the one below it. loss: of `objective.LOSSES`. towers: which encoders learn; the other is
    locked. blocks: "" all of them, "2" the last two of each encoder, or names with *. train_scale: whether the factor
    on cosines learns. rank: of a LoRA (alpha, dropout, kind, layers); 0: the weights themselves are trained.
    precision: of the products. held_out: share of the pictures kept for validation. checkpointing: of
    `recomputing.WAYS`, whether the blocks are computed twice rather than kept for the backward pass. sharded: whether
    of several processes each keeps its part of the optimiser's memory alone.
    """

    steps: int = 0
    epochs: float = 10.0
    shots_steps: int = 0
    seed: int = 0
    lr: float = 1e-5
    batch: int = 64
    at_once: int = 64
    warm_up: int = 50
    floor: float = 0.0
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    clip_norm: float = 0.0  # longest gradient; 0: any
    average: float = 0.0
    layer_decay: float = 1.0
    loss: str = CONTRASTIVE
    towers: str = BOTH
    blocks: str = ""
    train_scale: bool = True
    rank: int = 0
    alpha: float = 1.0
    dropout: float = 0.0
    kind: str = "LoRA"
    layers: str = "q, k, v"
    optimiser: str = ADAMW
    precision: str = "float32"
    held_out: float = 0.1
    augmentation: Augmentation = field(default_factory=Augmentation)
    checkpointing: str = AUTO
    sharded: bool = False

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least or not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}: expected {least} or more; change it")
        for name in ("lr", "alpha", "layer_decay", "eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: expected a number above 0; change it")
        for name in ("held_out", "average", "dropout", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 0 or more and less than 1; change it")
        if not 0 <= self.floor <= 1 or self.layer_decay > 1 or self.clip_norm < 0:
            raise ValueError(
                f"floor is {self.floor}, layer_decay {self.layer_decay} and clip_norm {self.clip_norm}: expected "
                "shares of 0..1 and a norm of 0 or more; change them"
            )
        choices = {
            "loss": LOSSES,
            "towers": TOWERS,
            "kind": tuple(TRAINABLE),
            "layers": tuple(LAYERS),
            "optimiser": OPTIMISERS,
            "precision": PRECISIONS,
            "checkpointing": WAYS_TO_RECOMPUTE,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}: expected one of {', '.join(map(repr, known))}")
        if self.sharded:
            check_sharded(self.optimiser)
        if not (self.steps or self.epochs or self.shots_steps):
            raise ValueError("steps, epochs and shots_steps are all 0: say how long to train")

    def steps_for(self, pictures: int, shots: int) -> int:
        """The steps for so many pictures, of which each class has `shots`."""
        if self.steps:
            return self.steps
        if self.shots_steps:
            return self.shots_steps * max(1, shots)
        return max(1, math.ceil(self.epochs * pictures / self.batch))

    def loop(self, steps: int) -> TrainingPlan:
        """The numbers of the loop."""
        return TrainingPlan(
            steps=steps,
            seed=self.seed,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warm_up=self.warm_up,
            clip_norm=self.clip_norm or math.inf,
            average=self.average,
            betas=(self.beta1, self.beta2),
            optimiser=self.optimiser,
            floor=self.floor,
            eps=self.eps,
            is_sharded=self.sharded,
        )

    def describe(self) -> dict[str, str]:
        """Every number as a text, for a file's header."""
        return described(self)

    def decisive(self) -> dict[str, str]:
        """The same without what only saves memory, and so may be another when a training goes on."""
        return {name: text for name, text in self.describe().items() if name not in _SAVES_MEMORY}
