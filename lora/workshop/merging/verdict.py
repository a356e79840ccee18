"""The verdict on a written file: loaded at 1, how far is it from the stack of the files that it was made of?"""

import math
from dataclasses import dataclass, replace

import torch

from ...formats.read import LoRAFile
from ...kinds.adapters import LoRAError
from ...models.places import Place
from ..algebra import add, norm_of
from ..gathering import Gathered, WeightOf, gather, strengths_of, thins_at
from ..sources import Source


@dataclass(frozen=True)
class Verdict:
    """The file at 1 against the stack: |difference| / |stack| over all weights, and of the worst weight.

    missing: the weights that the stack changes and the file does not. Below some 1e-8 fp64 tells no difference.
    """

    total: float
    worst: float
    place: Place
    weights: int
    missing: tuple[Place, ...]


def against_stack(gathered: Gathered, written: LoRAFile, weight_of: WeightOf | None = None) -> Verdict:
    """Measure what a file changes against what the stack of its sources changes at their strengths, weight by weight.

    Args:
        gathered: the sources.
        written: the file as it is read back.
        weight_of: gives a base weight, for sources that depend on it.

    Raises:
        LoRAError: the stack changes nothing.
    """
    own = Source("the merged file", written, {})
    sources = [*gathered.sources, own]
    both = gather(sources, weights=weight_of is not None, layout=gathered.layout)
    strengths = strengths_of(both)
    apart, whole, worst = 0.0, 0.0, (-1.0, next(iter(both.layers)))
    missing = []
    for place in both.layers:
        thins = thins_at(both, place, weight_of, torch.float64)
        *parts, new = [(thin, at[place]) for thin, at in zip(thins, strengths)]
        stack = [(thin, strength) for thin, strength in parts if thin is not None and strength]
        size = norm_of(add([thin for thin, _ in stack], [strength for _, strength in stack])) if stack else 0.0
        if new[0] is None and size:
            missing.append(place)
        every = [*stack, (new[0], -1.0)] if new[0] is not None else stack
        lost = norm_of(add([thin for thin, _ in every], [strength for _, strength in every])) if every else 0.0
        apart, whole = apart + lost**2, whole + size**2
        worst = max(worst, (lost / size if size else (math.inf if lost else 0.0), place), key=lambda one: one[0])
    if not whole:
        raise LoRAError("the stack changes nothing, so that there is nothing to compare a file with")
    return Verdict(math.sqrt(apart / whole), worst[0], worst[1], len(both.layers), tuple(missing))


def at_strengths(gathered: Gathered, factor: float) -> Gathered:
    """The same files at all strengths times a factor."""
    sources = tuple(
        replace(one, strength_model=one.strength_model * factor, strength_clip=one.strength_clip * factor)
        for one in gathered.sources
    )
    return replace(gathered, sources=sources)
