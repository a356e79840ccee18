"""Rank pictures by how well they fit a prompt, and choose the ones to keep.

The score is CLIP's cosine (Radford et al. 2021, arXiv 2103.00020), less that of the nearest negative; or the
probability of the prompt among the negatives. A picture with NaN features has a NaN score: it is last, and never kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

COSINE, PROBABILITY = "cosine", "probability"
KINDS = (COSINE, PROBABILITY)


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """The cosines of all pairs of rows; rows have length 1. [N, E], [M, E] -> [N, M] in -1..1"""
    return (first.float() @ second.float().T).clamp(-1, 1)


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """The cosines of all pairs of rows of any length. [N, E], [M, E] -> [N, M] in -1..1"""
    return cosines(F.normalize(first, dim=-1), F.normalize(second, dim=-1))


@dataclass(frozen=True)
class Logits:
    """What a model does with cosines: `scale` is the factor on them. Of a SigLIP `bias` is added, and a sigmoid judges
    each pair by itself; None: a softmax shares 100 % among the texts.
    """

    scale: float = 100.0  # where published CLIPs stand, within a percent
    bias: float | None = None

    def shares(self, cosine: Tensor) -> Tensor:
        """The probability of each text for each picture. [N, M] -> [N, M] in 0..1"""
        if self.bias is None:
            return probabilities(cosine, self.scale)
        return (self.scale * cosine + self.bias).sigmoid()


def probabilities(cosine: Tensor, scale: float) -> Tensor:
    """Softmax over the columns of each row; `scale` is the model's factor, exp of its logit scale. [N, M] -> [N, M]"""
    return (scale * cosine).softmax(-1)


def prompt_scores(
    images: Tensor, prompt: Tensor, negatives: Tensor | None = None, *, scale: float = 100.0, kind: str = COSINE
) -> Tensor:
    """Score each picture by its fit to the prompt, and against the negatives.

    cosine: the prompt's cosine, less the greatest cosine of a negative; -2..2, without negatives -1..1.
    probability: the prompt's share in the softmax over prompt and negatives; 0..1. With one negative both give the
    same order. Rows have length 1: images [B, E], prompt [1, E], negatives [N, E] -> [B]

    Raises:
        ValueError: a probability is wanted without negatives.
    """
    wanted = cosines(images, prompt)  # [B, 1]
    if negatives is None or not len(negatives):
        if kind == PROBABILITY:
            raise ValueError(
                "a probability needs something to choose between, but there are no negatives: every picture would "
                "have 100 %; write what the picture should not show, or take the score cosine"
            )
        return wanted[:, 0]
    unwanted = cosines(images, negatives)  # [B, N]
    if kind == PROBABILITY:
        return probabilities(torch.cat([wanted, unwanted], 1), scale)[:, 0]
    return wanted[:, 0] - unwanted.amax(1)


@dataclass(frozen=True)
class Ranking:
    """Pictures by their numbers in the batch, from 0."""

    order: tuple[int, ...]  # all pictures, the best first; equal scores in the order of the batch; NaN last
    kept: tuple[int, ...]  # the first of `order`, maybe none
    fell_back: bool = False  # no picture passed, and the best one is kept


def rank(
    scores: Sequence[float], *, keep: int = 0, threshold: float | None = None, never_none: bool = False
) -> Ranking:
    """Rank pictures, and keep the best `keep` (0: all) whose score is at least the threshold (None: that have a score).

    `never_none`: if no picture passes, the best one is kept.
    """
    order = sorted(range(len(scores)), key=lambda place: (math.isnan(scores[place]), -_or_zero(scores[place])))
    sound = [place for place in order if not math.isnan(scores[place])]
    passed = sound if threshold is None else [place for place in sound if scores[place] >= threshold]
    kept = passed[:keep] if keep else passed
    fell_back = never_none and not kept and bool(sound)
    return Ranking(tuple(order), tuple(sound[:1] if fell_back else kept), fell_back)


def _or_zero(score: float) -> float:
    return 0.0 if math.isnan(score) else score


def best_each_way(cosine: Tensor, *, with_itself: bool = False) -> tuple[list[int | None], list[int | None]]:
    """The number of the greatest value in each row, and in each column; None for one of NaNs. [N, M], NaN allowed.

    `with_itself`: rows and columns are the same pictures, so the diagonal is left out.
    """
    values = cosine.nan_to_num(nan=-torch.inf)
    if with_itself:
        values = values.masked_fill(torch.eye(len(values), dtype=torch.bool), -torch.inf)
    return _best(values), _best(values.T)


def _best(values: Tensor) -> list[int | None]:
    if not values.numel():
        return [None] * len(values)
    most, place = values.max(1)
    return [int(at) if math.isfinite(value) else None for value, at in zip(most.tolist(), place.tolist())]


def sound_pictures(image: Tensor) -> list[int]:
    """The numbers of the pictures whose pixels are all finite. [B, H, W, C]"""
    return [place for place, picture in enumerate(image) if bool(picture.isfinite().all())]


def with_gaps(features: Tensor, places: Sequence[int], count: int) -> Tensor:
    """Spread rows over `count` rows, to the numbers in `places`; the other rows are NaN. [n, E] -> [count, E]"""
    whole = torch.full((count, features.shape[1]), torch.nan)
    whole[list(places)] = features.float().cpu()
    return whole.masked_fill(~whole.isfinite().all(1, keepdim=True), torch.nan)
