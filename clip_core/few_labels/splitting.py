"""Which labelled pictures learn, and which report: drawn by a seed, class by class, near-duplicates on one side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..features.search import duplicate_groups

NEAR = 0.995  # the cosine from which pictures are taken for copies of each other


def groups_of(features: Tensor) -> Tensor:
    """The number of each picture's group of near-duplicates, by chains of pairs. [L, E] -> int64 [L]"""
    groups = torch.arange(len(features), dtype=torch.int64, device="cpu")
    for group in duplicate_groups([features], NEAR) if len(features) > 1 else ():
        groups[group] = min(group)
    return groups


def held_out_places(labels: Sequence[int], groups: Sequence[int], share: float, seed: int) -> list[int]:
    """The places of labelled pictures that are held out: of each class the share, rounded down, in whole groups, and
    never all of them.
    """
    found: list[int] = []
    for wholes in _by_class(labels, groups, seed).values():
        room = int(share * sum(map(len, wholes)))
        for whole in wholes[:-1]:
            if len(whole) <= room:
                found += whole
                room -= len(whole)
    return sorted(found)


def folds(
    labels: Sequence[int], groups: Sequence[int], count: int, seed: int, *, also_alone: bool = False
) -> list[list[int]]:
    """The places of labelled pictures in up to `count` parts for cross-validation, whole groups dealt out class by
    class. A class of one group is in none of them, as nothing would be left to learn it from; but in one where
    `also_alone`, for classes that have a text.
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    turn = 0
    for wholes in _by_class(labels, groups, seed).values():
        for whole in wholes if also_alone or len(wholes) > 1 else ():
            parts[turn % count] += whole
            turn += 1
    return [sorted(part) for part in parts if part]


def _by_class(labels: Sequence[int], groups: Sequence[int], seed: int) -> dict[int, list[list[int]]]:
    """The groups of each class, each as its places, in an order drawn by the seed."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    members: dict[int, dict[int, list[int]]] = {}
    for place, (label, group) in enumerate(zip(labels, groups)):
        members.setdefault(label, {}).setdefault(group, []).append(place)
    found = {}
    for label in sorted(members):
        wholes = list(members[label].values())
        order = torch.randperm(len(wholes), generator=generator, device="cpu").tolist()
        found[label] = [wholes[number] for number in order]
    return found
