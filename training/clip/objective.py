"""What a batch of pictures and texts costs, as the share of some of its rows: all shares together are the whole loss.

So a process computes the rows of its own pictures against everybody's features, and a large batch goes through its
matrix of logits some rows at a time. Sources: Radford et al., arXiv 2103.00020, figure 3 (contrastive); Zhai et al.,
arXiv 2303.15343, algorithm 1 (sigmoid); Zanella and Ben Ayed, arXiv 2405.18541 (classes).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..losses import LARGEST_SCALE

CONTRASTIVE, SIGMOID, CLASSES = "contrastive", "sigmoid", "classes"
LOSSES = (CONTRASTIVE, SIGMOID, CLASSES)


@dataclass(frozen=True, eq=False)
class Truth:
    """What belongs together in a batch of B pictures.

    pictures, texts: numbers, equal where two rows show the same picture or say the same (the same caption, or two texts
    of one class). With the loss of classes, `texts` is the number of each picture's class, the row of its text.
    """

    pictures: Tensor  # int64 [B]
    texts: Tensor  # int64 [B]

    def others(self, rows: Tensor) -> Tensor:
        """The true pairs of these rows beside their own. [n] -> bool [n, B]"""
        found = (self.texts[rows, None] == self.texts) | (self.pictures[rows, None] == self.pictures)
        found[torch.arange(len(rows), device=rows.device), rows] = False
        return found


@dataclass(frozen=True, eq=False)
class Factors:
    """What becomes of cosines: exp(scale) * cosine + bias; the bias is the sigmoid's alone."""

    scale: Tensor  # []
    bias: Tensor | None = None  # []


def share_of_loss(loss: str, images: Tensor, texts: Tensor, factors: Factors, truth: Truth, rows: Tensor) -> Tensor:
    """The part of a batch's loss that these rows have. True pairs off the diagonal are neither right nor wrong.

    contrastive: the mean of a picture's cross-entropy among the texts and a text's among the pictures, meaned over the
    batch; the factor is at most 100. sigmoid: the sum of all pairs' losses over the size of the batch. classes: a
    picture's cross-entropy among the texts of all classes, meaned over the batch.

    rows of length 1 [B, E], [B or C, E]; [n] -> []

    Raises:
        ValueError: no such loss.
    """
    if loss not in LOSSES:
        raise ValueError(f"the loss is {loss!r}: expected one of {', '.join(LOSSES)}")
    return {CONTRASTIVE: _contrastive, SIGMOID: _sigmoid, CLASSES: _classes}[loss](images, texts, factors, truth, rows)


def _contrastive(images: Tensor, texts: Tensor, factors: Factors, truth: Truth, rows: Tensor) -> Tensor:
    factor = factors.scale.float().clamp(max=LARGEST_SCALE).exp()
    others = truth.others(rows)  # [n, B]
    total = images.new_zeros(())
    for asking, asked in ((images, texts), (texts, images)):
        logits = (factor * asking[rows] @ asked.T).masked_fill(others, -torch.inf)
        total = total + functional.cross_entropy(logits, rows, reduction="sum")
    return total / (2 * len(images))


def _sigmoid(images: Tensor, texts: Tensor, factors: Factors, truth: Truth, rows: Tensor) -> Tensor:
    logits = factors.scale.float().exp() * images[rows] @ texts.T  # [n, B]
    logits = logits if factors.bias is None else logits + factors.bias.float()
    own = torch.arange(len(rows), device=rows.device)
    signs = -torch.ones_like(logits)
    signs[own, rows] = 1.0
    return functional.softplus(-signs * logits).masked_fill(truth.others(rows), 0.0).sum() / len(images)


def _classes(images: Tensor, texts: Tensor, factors: Factors, truth: Truth, rows: Tensor) -> Tensor:
    logits = factors.scale.float().clamp(max=LARGEST_SCALE).exp() * images[rows] @ texts.T  # [n, C]
    return functional.cross_entropy(logits, truth.texts[rows], reduction="sum") / len(images)
