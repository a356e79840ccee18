"""The bundled LoRA: teaches the bundled CLIP stripes, which it never saw, in pictures or in words."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...clip_core.model import CLIP
from ...clip_core.tokenizer import Tokenizer
from ...files.tensors import open_tensors
from ...lora.adapters import LoRA
from ...lora.formats import read, write
from ...lora.inject import collect, eject, inject
from ...lora.match import match
from ...lora.names import spellings
from ..loop import Checkpoint, OnStep, Plan, TrainingError, fit, trainable
from .clip import TABLE, clip_batch_loss, new_fact_head

PLAN = Plan(steps=600, seed=3, lr=4e-3, warm_up=30, average=0.98)
BATCH = 64
RANK = 2
LAYERS = ("vision_model.encoder.layers.*", "text_model.encoder.layers.*")
_PLAIN_AND_STRIPED = (0, 1)


@dataclass(frozen=True)
class TrainedAdapter:
    """What was trained, and how much of the model that is."""

    adapters: dict[str, LoRA]  # under the layers' names
    trained: int               # numbers
    total: int                 # numbers in the whole model
    outside_table: int         # numbers in the model but for its token table

    def shares(self) -> dict[str, float]:
        """Trained numbers as a share of the model's, 0..1."""
        return {"of all parameters": self.trained / self.total,
                "of those outside the token table": self.trained / self.outside_table}


def train_adapter(
    base: CLIP,
    plan: Plan = PLAN,
    *,
    rank: int = RANK,
    batch: int = BATCH,
    precision: torch.dtype = torch.bfloat16,
    on_step: OnStep | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainedAdapter:
    """Train adapters beside the base's attention and perceptron layers; the base is not changed."""
    with trainable():
        model, tokenizer = copy.deepcopy(base), Tokenizer()
        head = new_fact_head(model.config.text.embed, plan.seed)
        injection = inject(model, LAYERS, rank, generator=Generator().manual_seed(plan.seed))

        def step_loss(step: int, generator: Generator) -> Tensor:
            return clip_batch_loss(model, tokenizer, head, batch, precision, generator, textures=_PLAIN_AND_STRIPED)

        parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        parameters |= {f"head.{name}": weight for name, weight in head.named_parameters()}
        with sdpa_kernel(SDPBackend.MATH):
            fit(step_loss, parameters, plan, on_step=on_step, checkpoint=checkpoint)
        adapters = collect(model)
        eject(model)
        outside = injection.total - model.get_parameter(TABLE).numel()
    return TrainedAdapter(adapters, injection.trained, injection.total, outside)


def stored_adapter(adapters: dict[str, LoRA], base: CLIP, metadata: dict[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a kohya file, 16 bits."""
    names = spellings(base.state_dict(), "kohya")
    halves = {names[f"{layer}.weight"]: LoRA(adapter.up.half(), adapter.down.half(), adapter.alpha)
              for layer, adapter in adapters.items()}
    return write(halves, "kohya", metadata)


def with_adapter(base: CLIP, path: Path, strength: float = 1.0) -> CLIP:
    """A copy of the base with the file's changes added to its weights.

    Raises:
        TrainingError: something in the file has no place in this model.
    """
    with open_tensors(path) as file:
        adapters = read(file.read(file.shapes), file.metadata)
    model = copy.deepcopy(base)
    weights = dict(model.named_parameters())
    found = match(adapters, {name: tuple(weight.shape) for name, weight in weights.items()})
    if lost := [*found.homeless, *found.misfit]:
        raise TrainingError(f"{path.name} has {len(lost)} modules without a place in this CLIP, the first is {lost[0]}: "
                            "it was made for another model")
    with torch.no_grad():
        for name, adapter in found.found.items():
            weights[name] += adapter.delta(tuple(weights[name].shape), strength)
    return model
