"""What was learned, as something that judges pictures it has never seen: features in, logits of the classes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

LEAST = 1e-12  # below which a share counts as this, before its logarithm


class Head(Protocol):
    """A head has a kind and judges features."""

    @property
    def kind(self) -> str:
        """What files call it."""

    def logits(self, features: Tensor) -> Tensor:
        """Judge pictures; a softmax makes probabilities of the numbers. float32 [B, E] -> float32 [B, C]"""


@dataclass(frozen=True)
class LinearHead:
    """The logits are weights @ features + bias."""

    weights: Tensor  # float32 [C, E]
    bias: Tensor  # float32 [C]
    kind = "linear"

    def logits(self, features: Tensor) -> Tensor:
        return features.float() @ self.weights.T + self.bias


@dataclass(frozen=True)
class CacheHead:
    """Labelled pictures as keys beside the texts: weights @ f + alpha * exp(-beta (1 - keys @ f)) @ values.

    Source: Zhang et al. 2022 (Tip-Adapter, arXiv 2207.09519), equation 5.
    """

    weights: Tensor  # float32 [C, E], zeros without texts
    keys: Tensor  # float32 [K, E], rows of length 1
    values: Tensor  # float32 [K, C]
    sizes: Tensor  # float32 [2]: alpha, beta
    kind = "cache"

    def logits(self, features: Tensor) -> Tensor:
        alpha, beta = self.sizes.tolist()
        near = torch.exp(-beta * (1 - features.float() @ self.keys.T))  # [B, K]
        return features.float() @ self.weights.T + alpha * near @ self.values


@dataclass(frozen=True)
class NeighbourHead:
    """The shares of a new picture are the mean of its nearest keys' shares, weighted by cosine; the logits are their
    logarithms.

    Source: Delalleau, Bengio, Le Roux 2005 (Efficient Non-Parametric Function Induction in Semi-Supervised Learning),
    equation 8: what label propagation would give the picture while all others stay as they are.
    """

    keys: Tensor  # float32 [K, E], rows of length 1
    values: Tensor  # float32 [K, C], rows sum to 1
    near: Tensor  # int64 [1], how many neighbours count
    kind = "neighbours"

    def logits(self, features: Tensor) -> Tensor:
        found = (features.float() @ self.keys.T).topk(min(int(self.near), len(self.keys)), dim=1)
        weights = found.values.clamp(min=LEAST)  # [B, k]
        shares = (weights[..., None] * self.values[found.indices]).sum(1) / weights.sum(1, keepdim=True)
        return shares.clamp(min=LEAST).log()


HEADS = {head.kind: head for head in (LinearHead, CacheHead, NeighbourHead)}  # by what files call them


@dataclass(frozen=True)
class LearnedLabels:
    """A head with the names of its classes, which judges pictures as learned labels."""

    classes: tuple[str, ...]
    head: Head
    temperature: float  # logits are divided by it
    means: Tensor  # float32 [C, E], the mean of each class's labelled pictures, of length 1
    method: str

    def probabilities(self, features: Tensor) -> Tensor:
        """The probability of each class for each picture; NaN for a picture with NaN. [B, E] -> float32 [B, C]"""
        logits = self.head.logits(features) / self.temperature
        return logits.softmax(-1).masked_fill(features.isnan().any(1, keepdim=True), torch.nan)

    def cosines(self, features: Tensor) -> Tensor:
        """The cosine of each picture with each class's labelled pictures, on average. [B, E] -> [B, C]"""
        return (features.float() @ self.means.T).clamp(-1, 1)


def is_sound(learned: LearnedLabels, width: int) -> bool:
    """Whether the shapes and numbers of learned labels, for features of this width, belong together."""
    count, head = len(learned.classes), learned.head
    if isinstance(head, LinearHead):
        shapes = {"weights": (count, width), "bias": (count,)}
    elif isinstance(head, CacheHead):
        keys = head.keys.shape[0]
        shapes = {"weights": (count, width), "keys": (keys, width), "values": (keys, count), "sizes": (2,)}
    else:
        keys = head.keys.shape[0]  # type: ignore[attr-defined]
        shapes = {"keys": (keys, width), "values": (keys, count), "near": (1,)}
    tensors = [(getattr(head, name), shape) for name, shape in shapes.items()]
    tensors.append((learned.means, (count, width)))
    sound = all(tuple(tensor.shape) == shape and bool(tensor.isfinite().all()) for tensor, shape in tensors)
    return sound and count > 0 and 0 < learned.temperature < float("inf")
