"""The bundled LoRA: teaches the bundled CLIP stripes, which it never saw, in pictures or in words."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.nn import functional

from ...clip_core.networks.clip import CLIP
from ...clip_core.tokenizer import Tokenizer
from ...files.tensors import open_tensors
from ...lora.formats.read import read, write
from ...lora.kinds.adapters import LoRA
from ...lora.models.match import match
from ...lora.models.names import spellings
from ...lora.weights.inject import collect, eject, inject
from ..device import products_in, sent
from ..loop import Checkpoint, OnStep, TrainingError, TrainingPlan, fit, trainable
from ..losses import choice_loss
from ..scenes.scene import FACTS, TEXTURES
from ..scores import device_of, tokens
from .clip import TABLE, Batch, attention_at_few_tokens, batch_loss, draw_batch, features, new_fact_head

PLAN = TrainingPlan(steps=3000, seed=3, lr=2e-3, warm_up=50, average=0.995)
BATCH = 64
GREY = 0.4  # share of pictures without colour, for the reason in `clip.grey_share`
RANK = 3
LAYERS = ("*.patch_embedding", "*.v_proj", "*.out_proj", "*.fc1", "*.fc2")
KEEP_WEIGHT = 20.0
CHOICE_WEIGHT = 2.0
_PLAIN_AND_STRIPED = (0, 1)
_OTHER = {TEXTURES[0]: TEXTURES[1], TEXTURES[1]: TEXTURES[0]}
_TEXTURE = FACTS.index("texture")


@dataclass(frozen=True)
class TrainedAdapter:
    """What was trained, and how much of the model that is."""

    adapters: dict[str, LoRA]  # under the layers' names
    trained: int  # numbers
    total: int  # numbers in the whole model
    outside_table: int  # numbers in the model but for its token table

    def shares(self) -> dict[str, float]:
        """Trained numbers as a share of the model's, 0..1."""
        return {
            "of all parameters": self.trained / self.total,
            "of those outside the token table": self.trained / self.outside_table,
        }


def train_adapter(
    base: CLIP,
    plan: TrainingPlan = PLAN,
    *,
    rank: int = RANK,
    batch: int = BATCH,
    precision: torch.dtype = torch.bfloat16,
    on_step: OnStep | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainedAdapter:
    """Train adapters beside the layers that `LAYERS` names, on the device of the base, which is not changed.

    Besides learning from drawn batches, each picture has to tell its caption from the same one with the other
    texture; and the features of plain pictures and of captions without a word on texture are held where the base has
    them.
    """
    with trainable():
        model, tokenizer = copy.deepcopy(base), Tokenizer()
        device = device_of(base)
        head = new_fact_head(model.config.text.embed, plan.seed).to(device)
        injection = inject(model, LAYERS, rank, generator=Generator().manual_seed(plan.seed))

        def step_loss(step: int, generator: Generator) -> Tensor:
            drawn = draw_batch(model, tokenizer, batch, generator, grey=GREY, textures=_PLAIN_AND_STRIPED)
            images, texts = features(model, drawn, precision)
            with torch.no_grad():
                old_images, old_texts = features(base, drawn, precision)
            plain, said = drawn.facts[:, _TEXTURE] == 0, drawn.named[:, _TEXTURE]
            kept = _distance(images[plain], old_images[plain]) + _distance(texts[~said], old_texts[~said])
            wrong = _features_of_lies(model, tokenizer, drawn, precision)
            choice = choice_loss(images[said], texts[said], wrong, model.logit_scale)
            loss = batch_loss(model, head, drawn, images, texts, read=("texture",))
            return loss + KEEP_WEIGHT * kept + CHOICE_WEIGHT * choice

        parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        parameters |= {f"head.{name}": weight for name, weight in head.named_parameters()}
        with attention_at_few_tokens(device):
            fit(step_loss, parameters, plan, on_step=on_step, checkpoint=checkpoint)
        adapters = {name: lora for name, lora in collect(model).items() if isinstance(lora, LoRA)}
        eject(model)
        outside = injection.total - model.get_parameter(TABLE).numel()
    return TrainedAdapter(adapters, injection.trained, injection.total, outside)


def _features_of_lies(model: CLIP, tokenizer: Tokenizer, drawn: Batch, precision: torch.dtype) -> Tensor:
    """The captions that speak of texture, with the other texture in its place. [those captions, E]"""
    said = drawn.captions.named[:, _TEXTURE].tolist()
    lies = [
        " ".join(_OTHER.get(word, word) for word in text.split())
        for text, says in zip(drawn.captions.texts, said)
        if says
    ]
    with products_in(precision, drawn.ids.device):
        return model.text_features(sent(tokens(tokenizer, lies), drawn.ids.device)).float()


def _distance(new: Tensor, old: Tensor) -> Tensor:
    """1 - cosine, the mean over the rows."""
    return (1 - functional.cosine_similarity(new, old, dim=-1)).mean()


def stored_adapter(
    adapters: dict[str, LoRA], base: CLIP, metadata: dict[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a kohya file, 16 bits."""
    names = spellings(list(base.state_dict()), "kohya")
    halves = {
        names[f"{layer}.weight"]: LoRA(adapter.up.half(), adapter.down.half(), adapter.alpha)
        for layer, adapter in adapters.items()
    }
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
        raise TrainingError(
            f"{path.name} has {len(lost)} modules without a place in this CLIP, the first is "
            f"{lost[0]}: it was made for another model"
        )
    with torch.no_grad():
        for place, adapter in found.found.items():
            weight = weights[str(place)]  # CLIP's places are whole weights, no slices of one
            weight.add_(adapter.delta(tuple(weight.shape), strength).to(weight.device))
    return model
