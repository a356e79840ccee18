"""Which pictures to label next: those about which least is known, a class in turn, no two of them alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MARGIN, ENTROPY = "margin", "entropy"
WAYS = (MARGIN, ENTROPY)
ALIKE = 0.98  # the cosine from which a second picture says nothing new


def doubt(probabilities: Tensor, way: str) -> Tensor:
    """How little is known about each picture, 0..1: 1 less the lead of the best class over the second (margin), or the
    entropy as a share of the largest that there can be. Source: Settles 2009 (Active Learning Literature Survey), 3.1.
    [n, C] -> [n]
    """
    if way == MARGIN:
        best = probabilities.topk(2, dim=1).values
        return 1 - (best[:, 0] - best[:, 1])
    shares = probabilities.double()
    most = torch.log(torch.tensor(float(shares.shape[1]), dtype=torch.float64, device=shares.device))
    return -torch.special.xlogy(shares, shares).sum(1) / most


def to_label_next(
    features: Tensor, probabilities: Tensor, places: Sequence[int], count: int, way: str = MARGIN
) -> list[int]:
    """The `count` pictures among `places` whose label would tell most, the most doubtful first: one of each class that
    they are taken for, then a second of each. A picture much like a chosen one is passed over, while there are others.

    features [N, E], rows of length 1; probabilities [N, C]
    """
    here = torch.tensor(places, dtype=torch.int64, device=features.device)
    if not len(here):
        return []
    doubts = doubt(probabilities[here], way).tolist()
    taken_for = probabilities[here].argmax(1).tolist()
    waiting: dict[int, list[int]] = {}
    for number in sorted(range(len(doubts)), key=lambda number: -doubts[number]):
        waiting.setdefault(taken_for[number], []).append(number)
    order = [
        row[turn] for turn in range(max(map(len, waiting.values()))) for row in waiting.values() if turn < len(row)
    ]
    chosen: list[int] = []
    passed: list[int] = []
    for number in order:
        if len(chosen) == count:
            break
        row = features[here[number]]
        alike = chosen and float((features[here[chosen]] @ row).max()) >= ALIKE
        (passed if alike else chosen).append(number)
    chosen += passed[: count - len(chosen)]
    return [places[number] for number in chosen]
