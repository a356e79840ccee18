"""The plan of a VAE's training: every number that, with the pictures and the VAE, decides the result."""

import math
from dataclasses import dataclass, field

from ..optimisers import ADAMW, OPTIMISERS
from ..state import TrainingPlan, described
from .losses import Weights
from .parts import BOTH, DECODER, PARTS

AUTO, FP32, BF16 = "auto", "fp32", "bf16"
PRECISIONS = (AUTO, FP32, BF16)
_SMALLEST_CROP_PX = 16


@dataclass(frozen=True)
class VAEPlan:
    """How a VAE is trained.

    part: of `parts.PARTS`, what learns. rank: of a low-rank adapter beside every convolution, which is added to the
    weights at the end; 0: the weights themselves learn. crop_px: the side of the parts of pictures that are seen,
    `batch` of them together and `accumulate` batches before a step. shrink: parts of up to so many times that side are
    made smaller, so that a large picture is also seen from afar. mirror: half of them are mirrored. sample: latents
    are drawn from the encoder's distribution, not its mean. average: decay of the exponential mean of the weights,
    which is then the result; 0 leaves it off. hold, encoder_rate: for an encoder that learns, the weight of holding
    its latents, and a factor on its learning rate. held_out: share of the pictures that only judge. precision: of the
    convolutions, of `PRECISIONS`.
    """

    steps: int = 500
    seed: int = 0
    lr: float = 1e-4
    batch: int = 4
    accumulate: int = 1
    crop_px: int = 256
    part: str = DECODER
    rank: int = 0
    alpha: float = 0.0  # of the adapter; 0: its rank
    warm_up: int = 20
    weight_decay: float = 0.0
    average: float = 0.99
    weights: Weights = field(default_factory=Weights)
    shrink: float = 1.0
    mirror: bool = True
    sample: bool = False
    hold: float = 1.0
    encoder_rate: float = 0.1
    held_out: float = 0.2
    optimiser: str = ADAMW
    precision: str = AUTO

    def __post_init__(self):
        if min(self.steps, self.batch, self.accumulate) < 1 or min(self.rank, self.warm_up) < 0:
            raise ValueError(
                f"steps {self.steps}, batch {self.batch}, accumulation {self.accumulate}, rank {self.rank}, warm-up "
                f"{self.warm_up}: expected 1 or more, and a rank and a warm-up of 0 or more"
            )
        if self.crop_px < _SMALLEST_CROP_PX or not 1 <= self.shrink <= 16:
            raise ValueError(
                f"the crop is {self.crop_px} px and shrink {self.shrink:g}: expected {_SMALLEST_CROP_PX} px or more, "
                "and 1 to 16"
            )
        positive, others = (self.lr, self.encoder_rate), (self.hold, self.alpha, self.weight_decay)
        if not all(0 < one < math.inf for one in positive) or not all(0 <= one < math.inf for one in others):
            raise ValueError(
                f"learning rate {self.lr:g}, the encoder's factor {self.encoder_rate:g}, hold {self.hold:g}, alpha "
                f"{self.alpha:g}, weight decay {self.weight_decay:g}: expected the first two above 0, none below"
            )
        if not 0 <= self.held_out < 1 or not 0 <= self.average < 1:
            raise ValueError(
                f"held-out share {self.held_out:g}, average {self.average:g}: expected 0 or more and less than 1"
            )
        for what, one, known in (
            ("part", self.part, PARTS),
            ("optimiser", self.optimiser, OPTIMISERS),
            ("precision", self.precision, PRECISIONS),
        ):
            if one not in known:
                raise ValueError(f"{what} is {one!r}: expected one of {', '.join(known)}")

    @property
    def moves_latents(self) -> bool:
        """Whether the encoder learns."""
        return self.part == BOTH

    def loop(self) -> TrainingPlan:
        """The numbers of the loop."""
        return TrainingPlan.of(self)

    def describe(self) -> dict[str, str]:
        """Every number as a text, for a file's header."""
        return described(self)
