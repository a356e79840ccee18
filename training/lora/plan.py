"""The plan of a LoRA training: every number that, with the data and the base, decides the result."""

import math
from dataclasses import dataclass, field

from ..memory.recomputing import OFF
from ..memory.recomputing import WAYS as WAYS_TO_RECOMPUTE
from ..optimisers import ADAMW, OPTIMISERS
from ..state import TrainingPlan, described
from .data.captions import CaptionPlan
from .levels import WAYS
from .objective import Weighting
from .targets import KINDS, LINEAR


@dataclass(frozen=True)
class LoRAPlan:
    """How a LoRA is trained.

    lr: the optimiser's, reached after warm_up steps and falling on a cosine (a schedule-free one's stays). lora_plus:
    how many times faster `up` learns than `down` (LoRA+, arXiv 2402.12354). batch pictures are seen together,
    `accumulate` batches before a step. average: decay of the exponential mean of the factors, which is then the result;
    0 leaves it off. targets, blocks: see `targets`. levels: how noise levels are drawn. keep: weight of holding the
    base's own answers to `class_word`, 0 leaves it off. held_out: share of the pictures that are kept for validation.
    kind: of adapter, of `targets.KINDS`. optimiser: of `optimisers.OPTIMISERS`. recompute: of `recomputing.WAYS`,
    whether blocks are computed again for the backward pass instead of kept. text_encoder_rate: how fast the text
    encoder learns, as a factor on `lr`; at 0 it does not.
    """

    steps: int = 500
    seed: int = 0
    lr: float = 2e-4
    rank: int = 16
    alpha: float = 16.0
    batch: int = 1
    accumulate: int = 1
    warm_up: int = 20
    weight_decay: float = 0.01
    lora_plus: float = 1.0
    average: float = 0.0
    dropout: float = 0.0
    targets: str = LINEAR
    blocks: str = ""
    levels: str = WAYS[0]
    weighting: Weighting = field(default_factory=Weighting)
    captions: CaptionPlan = field(default_factory=CaptionPlan)
    keep: float = 0.0
    class_word: str = ""
    held_out: float = 0.0
    kind: str = "LoRA"
    optimiser: str = ADAMW
    recompute: str = OFF
    text_encoder_rate: float = 0.0

    def __post_init__(self):
        if min(self.steps, self.rank, self.batch, self.accumulate) < 1 or self.warm_up < 0:
            raise ValueError(
                f"steps {self.steps}, rank {self.rank}, batch {self.batch}, accumulation {self.accumulate}, warm-up "
                f"{self.warm_up}: expected 1 or more, and a warm-up of 0 or more"
            )
        if not self.lr > 0 or not self.lora_plus > 0 or not self.alpha > 0 or not self.keep >= 0:
            raise ValueError(
                f"learning rate {self.lr:g}, LoRA+ ratio {self.lora_plus:g}, alpha {self.alpha:g}, weight of what is "
                f"kept {self.keep:g}: expected numbers above 0, the last of 0 or more"
            )
        if not 0 <= self.held_out < 1 or not 0 <= self.average < 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"held-out share {self.held_out:g}, average {self.average:g}, dropout {self.dropout:g}: expected 0 or "
                "more and less than 1"
            )
        if not 0 <= self.text_encoder_rate < math.inf:
            raise ValueError(f"the text encoder's rate is {self.text_encoder_rate:g}: expected 0 or more")
        if self.kind not in KINDS:
            raise ValueError(f"the kind of adapter is {self.kind!r}: expected one of {', '.join(KINDS)}")
        if self.optimiser not in OPTIMISERS or self.recompute not in WAYS_TO_RECOMPUTE:
            raise ValueError(
                f"the optimiser is {self.optimiser!r} and recomputing {self.recompute!r}: expected one of "
                f"{', '.join(OPTIMISERS)}, and one of {', '.join(WAYS_TO_RECOMPUTE)}"
            )

    def loop(self) -> TrainingPlan:
        """The numbers of the loop."""
        return TrainingPlan.of(self)

    def describe(self) -> dict[str, str]:
        """Every number as a text, for a file's header; one that the first states do not have only where it counts."""
        told = described(self)
        return told if self.text_encoder_rate else {name: told[name] for name in told if name != "text_encoder_rate"}
