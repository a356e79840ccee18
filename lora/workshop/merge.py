"""Merging: several files become one, layer by layer, exactly or cut to a rank; every loss is measured."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from ..kinds.adapters import Adapter, LoRAError, is_adapter
from ..models.match import key_of
from ..models.places import Place
from .algebra import Spectrum, add, norm_of, spectrum_of
from .gathering import Gathered, WeightOf, strengths_of, thins_at
from .methods import Recipe, combine
from .outcome import adapter_of, distance, stored, widest
from .thin import Thin

OnStep = Callable[[int, int], None]
NO_STEP: OnStep = lambda done, total: None  # noqa: E731


@dataclass(frozen=True)
class MergedLayer:
    """A weight of the merged file.

    ranks: of each file's change, 0 where it makes none. exact: the rank of the method's result, and `rank` that of what
    is written. error: of what is written against the method's exact result, and `from_stack` against the sum of the
    changes at their strengths; both over the norm of that. norm: of what is written.
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
    rank: int | None = None,
    dtype: torch.dtype | None = None,
    weight_of: WeightOf | None = None,
    on_step: OnStep = NO_STEP,
) -> Merged:
    """Merge makes one change of the changes of each weight.

    Args:
        gathered: the files, at their strengths.
        recipe: how they are put together; by default their sum, which at strength 1 is the stack itself.
        rank: of every weight at the most, the best of that rank; by default all is kept.
        dtype: of the file's numbers; by default the one that holds those of all files.
        weight_of: gives a base weight, for what depends on it.
        on_step: called after each weight with (done, all); may raise to stop.

    Raises:
        LoRAError: a rank below 1, strengths or blocks that cannot be followed, a type that cannot hold a number, or
            nothing is left.
    """
    recipe = recipe or Recipe()
    if rank is not None and rank < 1:
        raise LoRAError(f"the rank is {rank}: expected 1 or more, or none to keep all")
    strengths = strengths_of(gathered)
    kind = dtype or widest(dtypes_of(gathered))
    adapters: dict[Place, Adapter] = {}
    layers, nothing = [], []
    for done, place in enumerate(gathered.layers, 1):
        thins = thins_at(gathered, place, weight_of)
        own = [at[place] for at in strengths]
        result = combine(thins, own, recipe, key_of(place))
        if result is None or not norm_of(result):
            nothing.append(place)
        else:
            adapters[place], layer = _finished(gathered, place, thins, own, result, rank, kind)
            layers.append(layer)
        on_step(done, len(gathered.layers))
    if not adapters:
        raise LoRAError("nothing is left to be written: the strengths are 0, or the changes cancel each other out")
    return Merged(gathered, adapters, tuple(layers), tuple(nothing), kind)


def _finished(
    gathered: Gathered,
    place: Place,
    thins: list[Thin | None],
    strengths: list[float],
    result: Thin,
    rank: int | None,
    dtype: torch.dtype,
) -> tuple[Adapter, MergedLayer]:
    """The adapter of a weight's result, cut and rounded, and how far that is from the result and from the stack."""
    thin = result if rank is None or rank >= result.rank else cut_to(result, rank)
    whole = any(thin_ is not None and thin_.dense for thin_ in thins) or result.dense
    base = None
    if gathered.layout is not None and key_of(place) in gathered.layout.shapes and isinstance(place, str):
        base = gathered.layout.shapes[place]
    adapter = adapter_of(thin, dtype, as_difference=whole, base=base)
    written = stored(adapter, thin.shape)
    present = [(one, strength) for one, strength in zip(thins, strengths) if one is not None and strength]
    stack = add([one for one, _ in present], [strength for _, strength in present]) if present else None
    layer = MergedLayer(
        place,
        tuple(0 if one is None else one.rank for one in thins),
        result.rank,
        written.rank,
        distance(written, result),
        distance(written, stack),
        norm_of(written),
        norm_of(stack) if stack else 0.0,
        norm_of(result),
    )
    return adapter, layer


def cut_to(thin: Thin, rank: int) -> Thin:
    """The best change of this rank."""
    found: Spectrum = spectrum_of(thin)
    return found.cut(rank, thin.up.dtype)


def dtypes_of(gathered: Gathered) -> list[torch.dtype]:
    """The floating types of the tensors of all parts."""
    found: dict[torch.dtype, None] = {}
    adapters = [part.adapter for parts in gathered.layers.values() for part in parts]
    while adapters:
        adapter = adapters.pop()
        for field in fields(adapter):
            value = getattr(adapter, field.name)
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                found[value.dtype] = None
            elif is_adapter(value):
                adapters.append(value)
    return list(found)
