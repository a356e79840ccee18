"""Resizing: each weight's change is cut to fewer singular values, by a rule or so that the file has a given size.

The factors of the best change of a rank come from the exact singular values of the thin factors; the dense change is
made only of what has no thin factors.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..formats.writing import write
from ..kinds.adapters import Adapter, LoRA, LoRAError
from ..models.match import key_of, part_of
from ..models.places import Place
from ..weights.low_rank import frobenius
from .algebra import Spectrum, norm_of
from .gathering import Gathered, WeightOf, thins_at
from .naming import named
from .noise import Noise, noise_of_factors, rounding_noise
from .outcome import adapter_of, distance, dtypes_of, precision_at, stored, widest
from .ranks import AUTOMATIC, SIZE, Rule, Share, rank_by, spectrum_by
from .sizing import Spell, costs_by_place, ranks_of_size, weighed
from .steps import OnStep, no_step
from .thin import Thin


@dataclass(frozen=True)
class CutLayer:
    """A weight of the resized file.

    before, rank: of its change, and of what is written (0: nothing, the whole change is lost). size: the norm of the
    change; error: of what is written, over that; base: the norm of the model's weight, None where none is known.
    """

    place: Place
    before: int
    rank: int
    size: float
    error: float
    base: float | None = None

    @property
    def of_base(self) -> float | None:
        """The error over the norm of the model's weight; None where that is not known."""
        return self.error * self.size / self.base if self.base else None


@dataclass(frozen=True, eq=False)
class Resized:
    """The adapters of the resized file by place, and what each weight lost.

    whole: places whose change has no rank (of a bias or a norm), which are kept as they are.
    """

    gathered: Gathered
    adapters: dict[Place, Adapter]
    layers: tuple[CutLayer, ...]
    whole: tuple[Place, ...]
    dtype: torch.dtype

    @property
    def error(self) -> float:
        """The norm of all that was lost, over that of all changes."""
        return error_over_all(self.layers)

    @property
    def of_base(self) -> float | None:
        """The errors over the norms of the model's weights, of all layers in the root mean square; None without a
        model. It is what a file size makes small, every layer alike.
        """
        return of_bases(self.layers)


def of_bases(layers: Sequence[CutLayer]) -> float | None:
    """The root mean square of `CutLayer.of_base` over the layers that have one; None where none has."""
    known = [own for layer in layers if (own := layer.of_base) is not None]
    return math.sqrt(math.fsum(own * own for own in known) / len(known)) if known else None


def error_over_all(layers: Sequence[CutLayer]) -> float:
    """The norm of what all layers lost, over that of their changes. -> 0..1, but for rounding"""
    total = math.fsum(layer.size**2 for layer in layers)
    return math.sqrt(math.fsum((layer.error * layer.size) ** 2 for layer in layers) / total) if total else 0.0


def speller(gathered: Gathered, dialect: str, metadata: Mapping[str, str]) -> Spell:
    """A function that gives the tensors and the header of the file of some of the adapters, in a dialect."""
    return lambda adapters: write(named(gathered, adapters, dialect)[0], dialect, metadata)


def resize(
    gathered: Gathered,
    rule: Rule,
    *,
    dtype: torch.dtype | None = None,
    weight_of: WeightOf | None = None,
    spell: Spell | None = None,
    on_step: OnStep = no_step,
) -> Resized:
    """Resize cuts the changes of one file to lower ranks.

    Args:
        gathered: one file (of several, the sum of the changes at strength 1 is cut).
        rule: how much of each change is kept. `size` needs `spell`; with `weight_of` it makes the error small beside
            the model's weights, and without beside the file's own changes.
        dtype: of the file's numbers; by default that of the file.
        weight_of: gives a base weight, for its norm and for what depends on it.
        spell: gives the tensors and the header of the file of these adapters; see `speller`.
        on_step: called after each weight with (done, all); may raise to stop.

    Raises:
        LoRAError: a type that cannot hold a number, a size in which nothing fits, or nothing is left.
    """
    cutter = _Cutter(gathered, rule, dtype or widest(dtypes_of(gathered)), weight_of)
    places = list(gathered.layers)
    ranks: dict[Place, int] = {}
    if rule.name == SIZE:
        if spell is None:
            raise LoRAError("the rule size needs to know what the adapters take in the file")
        shares = _shares(cutter, places, spell, lambda done, total: on_step(done, 2 * total))
        vectors = {at: cutter.cut(at, None)[0] for at in places if len(gathered.shapes[at]) < 2}
        others = {at: adapter for at, adapter in vectors.items() if adapter is not None}
        ranks = ranks_of_size(gathered.shapes, shares, rule, spell, cutter.dtype, others)
    adapters: dict[Place, Adapter] = {}
    layers: list[CutLayer] = []
    whole: list[Place] = []
    before, total = (len(places), 2 * len(places)) if rule.name == SIZE else (0, len(places))
    for done, place in enumerate(places, before + 1):
        adapter, layer = cutter.cut(place, ranks.get(place))
        if adapter is not None:
            adapters[place] = adapter
        if layer is None:
            whole.append(place)
        else:
            layers.append(layer)
        on_step(done, total)
    if not adapters:
        raise LoRAError("nothing is left to be written: the file changes nothing, or the rule keeps none of it")
    return Resized(gathered, adapters, tuple(layers), tuple(whole), cutter.dtype)


@dataclass(frozen=True, eq=False)
class _Cutter:
    """Cuts one place at a time, so that the memory is that of one weight."""

    gathered: Gathered
    rule: Rule
    dtype: torch.dtype
    weight_of: WeightOf | None

    def thin(self, place: Place) -> Thin:
        found = [thin for thin in thins_at(self.gathered, place, self.weight_of) if thin is not None]
        if len(found) != 1:
            raise LoRAError(f"{len(found)} files change {key_of(place)}: one file is resized at a time")
        return found[0]

    def spectrum(self, place: Place, thin: Thin) -> tuple[Spectrum, Noise | None]:
        noise = self._noise(place, thin) if self.rule.name == AUTOMATIC else None
        return spectrum_by(self.rule, thin, noise), noise

    def _noise(self, place: Place, thin: Thin) -> Noise:
        kind = precision_at(self.gathered, place)
        return rounding_noise(thin.matrix(), kind) if thin.dense else noise_of_factors(thin.up, thin.down, kind)

    def base(self, place: Place) -> float | None:
        if self.weight_of is None or place in self.gathered.own:
            return None
        return frobenius(part_of(self.weight_of(key_of(place)), place))

    def cut(self, place: Place, rank: int | None) -> tuple[Adapter | None, CutLayer | None]:
        """The adapter of a place at a rank, or at that of the rule, and what it loses; no layer for a vector."""
        thin = self.thin(place)
        if len(thin.shape) < 2:
            return adapter_of(thin, self.dtype), None
        size, base = norm_of(thin), self.base(place)
        spectrum, noise = self.spectrum(place, thin)
        if rank is None:
            rank = rank_by(self.rule, spectrum.s, spectrum.energy, noise)
        if not rank:
            return None, CutLayer(place, thin.rank, 0, size, 1.0 if size else 0.0, base)
        adapter = self._uncut(place, rank) or adapter_of(spectrum.cut(rank), self.dtype, base=self._shape(place))
        error = distance(stored(adapter, thin.shape), thin)
        return adapter, CutLayer(place, thin.rank, rank, size, error, base)

    def _shape(self, place: Place) -> tuple[int, ...] | None:
        """The shape of the model's weight, where it is known and the place is all of it."""
        layout = self.gathered.layout
        known = layout is not None and isinstance(place, str) and place in layout.shapes
        return tuple(layout.shapes[place]) if layout is not None and isinstance(place, str) and known else None

    def _uncut(self, place: Place, rank: int) -> Adapter | None:
        """The file's own LoRA of this rank with its scale in `up`, where that rounds nothing; else None."""
        part, *others = self.gathered.layers[place]
        own = part.adapter
        if others or part.rows is not None or not isinstance(own, LoRA) or own.rank != rank or own.mid is not None:
            return None
        scaled = own.up.float() * own.scale
        up = scaled.to(self.dtype)
        exact = torch.equal(up.float(), scaled) and own.down.dtype == self.dtype
        return LoRA(up, own.down, float(rank)) if exact else None


def _shares(cutter: _Cutter, places: list[Place], spell: Spell, on_step: OnStep) -> dict[Place, Share]:
    """What each place can take of a file; vectors are kept whole and take no part."""
    costs = costs_by_place(cutter.gathered.shapes, spell)
    shares: dict[Place, Share] = {}
    bases: dict[Place, float | None] = {}
    for done, place in enumerate(places, 1):
        if place in costs and costs[place][0]:
            found = cutter.spectrum(place, cutter.thin(place))[0]
            kept = found.s[: rank_by(cutter.rule, found.s, found.energy)]
            numbers, once = costs[place]
            bases[place] = cutter.base(place)
            shares[place] = Share(kept, numbers * cutter.dtype.itemsize, once)
        on_step(done, len(places))
    return weighed(shares, bases)
