"""Sizes to train at: pictures of alike shape share one, so that a batch needs neither bars nor stretching.

As Novel AI's aspect ratio buckets: sizes in whole steps whose area is at most the resolution's, nearest to a picture's
own ratio; the picture is scaled to cover it and cut at the centre.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator


@dataclass(frozen=True)
class Fitted:
    """A picture's size in training, px, and what of the picture its cut leaves out, 0..1."""

    width: int
    height: int
    cut: float


def sizes(resolution_px: int, step_px: int = 64, longest: float = 2.0) -> list[tuple[int, int]]:
    """All (width, height) in steps of `step_px` with at most the area of resolution_px squared and sides no more than
    `longest` times it; for each width the largest height.

    Raises:
        ValueError: a resolution of less than a step.
    """
    if resolution_px < step_px:
        raise ValueError(
            f"a resolution of at least {step_px} px was expected, and this is {resolution_px}: choose more"
        )
    most = int(resolution_px * longest)
    found = set()
    for width in range(step_px, most + 1, step_px):
        height = min(most, resolution_px**2 // width) // step_px * step_px
        if height >= step_px:
            found |= {(width, height), (height, width)}
    return sorted(found)


def fit(width: int, height: int, choices: Sequence[tuple[int, int]], *, keep_small_by_px: int = 0) -> Fitted:
    """The size for a picture: of the nearest ratio, and of those the largest.

    keep_small_by_px: 0 lets pictures be scaled up; else a picture that would be keeps its own size, in whole steps of
    so many px (one step at least).
    """
    ratio = math.log(width / height)
    own = min(choices, key=lambda size: (round(abs(math.log(size[0] / size[1]) - ratio), 9), -size[0] * size[1]))
    if keep_small_by_px and max(own[0] / width, own[1] / height) > 1:
        longest = max(own)
        own = (_whole(min(width, longest), keep_small_by_px), _whole(min(height, longest), keep_small_by_px))
    scale = max(own[0] / width, own[1] / height)
    return Fitted(own[0], own[1], cut=max(0.0, 1 - own[0] * own[1] / (width * height * scale**2)))


def _whole(side_px: int, step_px: int) -> int:
    return max(step_px, side_px // step_px * step_px)


def batches(groups: Sequence[object], size: int, generator: Generator) -> list[list[int]]:
    """One pass over all examples in a random order: batches of at most `size` whose members have one group.

    groups: of each example, what it must share with those of its batch (its size, the length of its prompt). A last
    batch of a group may be smaller; every example is in exactly one batch.
    """
    order = torch.randperm(len(groups), generator=generator).tolist()
    waiting: dict[object, list[int]] = {}
    done: list[list[int]] = []
    for place in order:
        own = waiting.setdefault(groups[place], [])
        own.append(place)
        if len(own) == size:
            done.append(waiting.pop(groups[place]))
    done += waiting.values()
    return [done[place] for place in torch.randperm(len(done), generator=generator).tolist()]


def batch_at(step: int, groups: Sequence[object], size: int, seed: int) -> list[int]:
    """The batch of a step: the passes follow one another, each in an order of its own that its number decides."""
    per_pass = sum(math.ceil(count / size) for count in Counter(groups).values())
    number, place = divmod(step, per_pass)
    return batches(groups, size, Generator().manual_seed((seed * 1_000_003 + number) % 2**63))[place]
