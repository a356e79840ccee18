"""Noise levels to train at: which, and how often.

Flow models: logit-normal as in Stable Diffusion 3 (Esser et al., arXiv 2403.03206); the model's own shift is in its
levels, and is put on once. Models with a table of levels are trained at those and no others: between two of them the
network would be told another level than the noise is of.
"""

import torch
from torch import Generator, Tensor

from .trainee import Levels

UNIFORM, LOGIT_NORMAL = "uniform", "logit normal"
WAYS = ("auto", UNIFORM, LOGIT_NORMAL)


def draw_levels(levels: Levels, count: int, generator: Generator, way: str = "auto") -> Tensor:
    """Draw `count` levels. -> [count] float32 on the CPU

    Args:
        way: of WAYS; "auto" is uniform for a model with a table, and logit-normal for a flow model.

    Raises:
        ValueError: an unknown way.
    """
    if way not in WAYS:
        raise ValueError(f"the noise levels are drawn {' or '.join(WAYS)}, not {way!r}: choose one of those")
    if way == "auto":
        way = UNIFORM if levels.whole else LOGIT_NORMAL
    if way == LOGIT_NORMAL:
        share = torch.sigmoid(torch.randn(count, generator=generator))
    else:
        share = torch.rand(count, generator=generator)
    if not levels.whole:
        return levels.of(share).float()
    places = (share * len(levels.table)).long().clamp(max=len(levels.table) - 1)
    return levels.table[places]


def bands(levels: Levels, count: int = 4) -> Tensor:
    """Fixed levels for validation, one in the middle of each of `count` equal parts of the way. -> [count] float32"""
    shares = (torch.arange(count, dtype=torch.float32) + 0.5) / count
    if levels.whole:
        return levels.table[(shares * len(levels.table)).long()]
    return levels.of(shares).float()
