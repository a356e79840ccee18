"""Merging: several files become one, layer by layer, exactly or cut to a rank; every loss is measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...kinds.adapters import Adapter, LoRAError
from ...models.match import key_of
from ...models.places import Place
from ..algebra import Spectrum, add, norm_of
from ..gathering import Gathered, WeightOf, strengths_of, thins_at
from ..noise import noise_of_factors, rounding_noise
from ..outcome import adapter_of, distance, dtypes_of, precision_at, stored, widest
from ..ranks import AUTOMATIC, RANK, SIZE, Rule, Share, rank_by
from ..sizing import Spell, costs_by_place, ranks_of_size
from ..spectrum import spectrum_for
from ..steps import OnStep, no_step
from ..thin import Thin, flat_shape
from .methods import Recipe, combine


@dataclass(frozen=True)
class MergedLayer:
    """A weight of the merged file.

    ranks: of each file's change, 0 where it makes none. exact: the rank of the method's result, and `rank` that of what
    is written (0: the file size leaves no room for it). error: of what is written against the method's exact result,
    and `from_stack` against the sum of the changes at their strengths; both over the norm of that. norm: of what is
    written.
    """

    place: Place
    ranks: tuple[int, ...]
    exact: int
    rank: int
    error: float
    from_stack: float
    norm: float
    stack_norm: float
    exact_norm: float


@dataclass(frozen=True, eq=False)
class Merged:
    """The merged adapters by place, and what became of each weight; `nothing`: weights whose changes cancel out."""

    gathered: Gathered
    adapters: dict[Place, Adapter]
    layers: tuple[MergedLayer, ...]
    nothing: tuple[Place, ...]
    dtype: torch.dtype

    @property
    def error(self) -> float:
        """What is written against the method's exact result, over all weights: |difference| / |result|."""
        return _over_all([(layer.error, layer.exact_norm) for layer in self.layers])

    @property
    def from_stack(self) -> float:
        """What is written against the stack at its strengths, over all weights."""
        return _over_all([(layer.from_stack, layer.stack_norm) for layer in self.layers])


def _over_all(parts: list[tuple[float, float]]) -> float:
    known = [(error, norm) for error, norm in parts if math.isfinite(error)]
    total = math.fsum(norm * norm for _, norm in known)
    return math.sqrt(math.fsum((error * norm) ** 2 for error, norm in known) / total) if total else 0.0


def merge(
    gathered: Gathered,
    recipe: Recipe | None = None,
    *,
    rule: Rule | None = None,
    dtype: torch.dtype | None = None,
    weight_of: WeightOf | None = None,
    spell: Spell | None = None,
    on_step: OnStep = no_step,
) -> Merged:
    """Merge makes one change of the changes of each weight.

    Args:
        gathered: the files, at their strengths.
        recipe: how they are put together; by default their sum, which at strength 1 is the stack itself.
        rule: how many singular values of each weight are kept; by default all. What is dense by its method (TIES on the
            weights themselves) is kept to the sum of the ranks then. `size` needs `spell`.
        dtype: of the file's numbers; by default the one that holds those of all files.
        weight_of: gives a base weight, for what depends on it.
        spell: gives the tensors and the header of the file of some adapters; see `resizing.speller`.
        on_step: called after each weight with (done, all); may raise to stop.

    Raises:
        LoRAError: strengths or blocks that cannot be followed, a type that cannot hold a number, or nothing is left.
    """
    recipe = recipe or Recipe()
    kind = dtype or widest(dtypes_of(gathered))
    making = _Making(gathered, recipe, strengths_of(gathered), rule, kind, weight_of)
    places = list(gathered.layers)
    ranks, total = None, len(places)
    if rule is not None and rule.name == SIZE:
        total = 2 * len(places)
        ranks = _shared_out(making, rule, spell, on_step, total)
    adapters: dict[Place, Adapter] = {}
    layers, nothing = [], []
    for done, place in enumerate(places, 1 + total - len(places)):
        thins, result = making.exact(place)
        rank = None if ranks is None else ranks[place]
        if result is None or not norm_of(result):
            nothing.append(place)
        else:
            adapter, layer = _finished(making, place, thins, result, rank)
            layers.append(layer)
            if adapter is not None:
                adapters[place] = adapter
        on_step(done, total)
    if not adapters:
        raise LoRAError("nothing is left to be written: the strengths are 0, or the changes cancel each other out")
    return Merged(gathered, adapters, tuple(layers), tuple(nothing), kind)


@dataclass(frozen=True, eq=False)
class _Making:
    """What all weights of a merge have in common."""

    gathered: Gathered
    recipe: Recipe
    strengths: Sequence[dict[Place, float]]
    rule: Rule | None
    dtype: torch.dtype
    weight_of: WeightOf | None

    def exact(self, place: Place) -> tuple[list[Thin | None], Thin | None]:
        """What each file does to a weight, and the method's result."""
        thins = thins_at(self.gathered, place, self.weight_of)
        return thins, combine(thins, self.at(place), self.recipe, key_of(place))

    def at(self, place: Place) -> list[float]:
        return [own[place] for own in self.strengths]

    def cut(self, place: Place, thins: Sequence[Thin | None], result: Thin, rank: int | None) -> Thin:
        """The result as it is written: whole, of a rank, or of the rank that the rule gives it."""
        if len(result.shape) < 2:
            return result
        dense = result.dense and self.recipe.by_entry and not self.recipe.aligned
        if rank is None and self.rule is None and not dense:
            return result
        side = min(flat_shape(result.shape))
        of_files = min(side, sum(thin.rank for thin in thins if thin is not None))
        most = rank or (of_files if self.rule is None else min(side, self.rule.most or side))
        if self.rule is not None and self.rule.name == RANK:
            most = min(most, int(self.rule.amount))
        if result.rank <= most and (rank is not None or self.rule is None or self.rule.name == RANK):
            return result
        spectrum = spectrum_for(result, most)
        if rank is None and self.rule is not None:
            rank = self.ruled(place, result, spectrum)
        return spectrum.cut(max(1, rank or most), result.up.dtype)

    def ruled(self, place: Place, result: Thin, spectrum: Spectrum) -> int:
        """The rank that the rule gives a result."""
        if self.rule is None:
            return len(spectrum.s)
        noise = None
        if self.rule.name == AUTOMATIC:
            kind = max(precision_at(self.gathered, place), self.dtype, key=lambda one: torch.finfo(one).eps)
            plain = not result.dense
            noise = noise_of_factors(result.up, result.down, kind) if plain else rounding_noise(result.matrix(), kind)
        return rank_by(self.rule, spectrum.s, spectrum.energy, noise)


def _shared_out(
    making: _Making, rule: Rule, spell: Spell | None, on_step: OnStep, total: int
) -> dict[Place, int | None]:
    """The rank of each weight within a file size, spent where it saves the most error for a byte; None for a vector."""
    if spell is None:
        raise LoRAError("the rule size needs to know what the adapters take in the file")
    shapes = making.gathered.shapes
    costs = costs_by_place(shapes, spell)
    shares: dict[Place, Share] = {}
    vectors: dict[Place, Adapter] = {}
    for done, place in enumerate(making.gathered.layers, 1):
        _, result = making.exact(place)
        if result is not None and norm_of(result):
            if len(shapes[place]) < 2:
                vectors[place] = adapter_of(result, making.dtype)
            elif costs[place][0]:
                numbers, once = costs[place]
                values = spectrum_for(result, min(*flat_shape(result.shape), rule.most or result.rank, result.rank)).s
                shares[place] = Share(values, numbers * making.dtype.itemsize, once)
        on_step(done, total)
    found = ranks_of_size(shapes, shares, rule, spell, making.dtype, vectors)
    return {**dict.fromkeys(shapes, 0), **found, **dict.fromkeys(vectors, None)}


def _finished(
    making: _Making, place: Place, thins: list[Thin | None], result: Thin, rank: int | None
) -> tuple[Adapter | None, MergedLayer]:
    """The adapter of a weight's result, cut and rounded, and how far that is from the result and from the stack."""
    ranks = tuple(0 if one is None else one.rank for one in thins)
    present = [(one, strength) for one, strength in zip(thins, making.at(place)) if one is not None and strength]
    stack = add([one for one, _ in present], [strength for _, strength in present]) if present else None
    sizes = norm_of(stack) if stack else 0.0, norm_of(result)
    if rank == 0:
        return None, MergedLayer(place, ranks, result.rank, 0, 1.0, 1.0, 0.0, *sizes)
    thin = making.cut(place, thins, result, rank)
    whole = thin is result and any(one is not None and one.dense for one in thins)
    layout, base = making.gathered.layout, None
    if layout is not None and isinstance(place, str) and place in layout.shapes:
        base = layout.shapes[place]
    adapter = adapter_of(thin, making.dtype, as_difference=whole, base=base)
    written = stored(adapter, thin.shape)
    errors = distance(written, result), distance(written, stack)
    return adapter, MergedLayer(place, ranks, result.rank, thin.rank, *errors, norm_of(written), *sizes)
