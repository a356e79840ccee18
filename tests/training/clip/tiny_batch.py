"""A tiny CLIP, or SigLIP, and a batch for it, the same in every process."""

import torch
from torch import Tensor

from clip_vae_lora.clip_core.config import CLIPConfig, TextConfig, VisionConfig
from clip_vae_lora.clip_core.networks.clip import CLIP, initialise_
from clip_vae_lora.clip_core.tokenizer import Tokenizer
from clip_vae_lora.training.clip.cached import Side, backward_by_parts
from clip_vae_lora.training.clip.objective import CLASSES, SIGMOID, Factors, Truth, share_of_loss
from clip_vae_lora.training.clip.towers import Towers, called_by_layers
from clip_vae_lora.training.distributed import ProcessGroup, current_group

CONFIG = CLIPConfig(TextConfig(32, 2, 2, 64, 16), VisionConfig(32, 2, 2, 64, 8, 16, 16))
TEXTS = ("a red cat", "a blue cat", "a dog", "a red cat", "a house on a hill", "two dogs", "a bird", "the sea")
CLASSES_SAID = ("a photo of a cat", "a photo of a dog", "a photo of a long blue house")
TRUTH = Truth(torch.tensor([0, 1, 2, 3, 4, 5, 6, 2]), torch.tensor([0, 1, 2, 0, 3, 4, 5, 6]))  # rows 0, 3 and 2, 7


def towers(seed: int = 0) -> Towers:
    model = initialise_(CLIP(CONFIG), seed).eval()
    model.register_parameter("logit_bias", torch.nn.Parameter(torch.tensor(-2.0)))
    with torch.no_grad():
        model.logit_scale.fill_(1.3)
    return Towers(model, Tokenizer())


def squares(count: int = 8) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def truth_of(loss: str) -> Truth:
    return Truth(TRUTH.pictures, torch.tensor([0, 1, 2, 0, 1, 2, 2, 1])) if loss == CLASSES else TRUTH


def gradients(both: Towers, loss: str, at_once: int, group: ProcessGroup | None = None) -> dict[str, Tensor]:
    """The gradients of a batch by parts, and its loss; summed over the processes."""
    group, model = group or current_group(), both.model
    rows, pictures = both.rows(CLASSES_SAID if loss == CLASSES else TEXTS)[0], squares()
    images = Side(8, lambda first, last: both.images(pictures[first:last]), range(8), both.device)
    texts = Side(len(rows), lambda first, last: both.texts(rows[first:last]), range(100, 108), both.device)
    factors = Factors(model.logit_scale, model.logit_bias if loss == SIGMOID else None)

    def share(some: Tensor, said: Tensor, own: Tensor) -> Tensor:
        return share_of_loss(loss, some, said, factors, truth_of(loss), own)

    model.zero_grad()
    with called_by_layers(model):
        total = backward_by_parts(images, texts, share, at_once, group, rows_at_once=3)
    found = {
        "loss": total,
        **{n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()},
    }
    found = {name: tensor.clone() for name, tensor in found.items()}
    group.sum_in_order(list(found.values()))
    return found


def far(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest distance of two tensors of one name, relative to the length of the second; or of a thousandth of all
    of them, where that is longer: a key's bias has no gradient but rounding.
    """
    assert one.keys() == other.keys()
    all_of_them = float(torch.cat([tensor.flatten() for tensor in other.values()]).norm())
    return max(float((one[n] - other[n]).norm()) / max(float(other[n].norm()), 1e-3 * all_of_them) for n in other)
