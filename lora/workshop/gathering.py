"""Gathering: files of any dialects are laid side by side, layer by layer, under one name for each weight.

Where one file has q, k and v apart and another has them fused, the rows become parts of the whole weight. What has no
place is said, or, without a model, goes by its own name.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..formats.list_text import split_words
from ..kinds.adapters import Adapter, LoRAError
from ..kinds.widening import Widening, widen
from ..models.blocks import select
from ..models.families import is_of_encoder
from ..models.match import key_of, match, part_of, shape_at
from ..models.names import front_off
from ..models.places import Place, Slice
from .algebra import add
from .sources import Layout, Shapes, Source, check_families, check_sizes, check_strengths, layout_of
from .thin import Thin, dense_thin, own_shape, thin_of, why_not_thin

UNET = "diffusion_model."
WeightOf = Callable[[str], Tensor]  # a model's key -> its weight


@dataclass(frozen=True, eq=False)
class Part:
    """An adapter of a file, on all of a weight or on some rows of it (first, how many)."""

    source: int
    module: str
    adapter: Adapter
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Gathered:
    """Files side by side.

    layers: the place of each changed weight -> its parts; shapes: of these weights. layout: the model whose names the
    places are, None where they are the files' own names. left_out: file -> its module -> why it takes no part.
    own: the places that are names of the files themselves.
    """

    sources: tuple[Source, ...]
    layers: dict[Place, tuple[Part, ...]]
    shapes: dict[Place, tuple[int, ...]]
    layout: Layout | None
    left_out: dict[str, dict[str, str]]
    own: frozenset[Place] = frozenset()

    def modules_of(self, source: int) -> int:
        return len({part.module for parts in self.layers.values() for part in parts if part.source == source})

    def common(self) -> list[Place]:
        """The places that more than one file changes."""
        return [place for place, parts in self.layers.items() if len({part.source for part in parts}) > 1]


def gather(
    sources: Sequence[Source],
    shapes: Shapes | None = None,
    weights: bool = False,
    names: str = "what is connected",
    *,
    layout: Layout | None = None,
) -> Gathered:
    """Lay files side by side under the names of one model.

    Args:
        sources: at least one.
        shapes: keys and shapes of the connected model (and its text encoders); without it, those of the published
            model or of the one that the files' names imply, and where there is none the files' own names.
        weights: whether the base weights can be had; without them what depends on the weight is left out, by name.
        names: what the connected model is called.
        layout: the model of an earlier gathering, instead of `shapes`.

    Raises:
        LoRAError: a strength that is no number, files of different families or sizes of model, or nothing in them has a
            place.
    """
    check_strengths(sources)
    check_families(sources, shapes)
    if layout is None:
        layout = Layout(names, shapes, True) if shapes is not None else layout_of(sources)
    left_out: dict[str, dict[str, str]] = {}
    parts: dict[Place, list[Part]] = {}
    clashes: list[dict[str, str]] = [{} for _ in sources]
    for number, source in enumerate(sources):
        lost = left_out[source.name] = dict(source.file.unread)
        lost |= dict.fromkeys(source.file.embeddings, "a learned word, which is no change of a weight")
        for place, part in _placed(number, source, layout, lost, clashes[number]):
            if not weights and (why := why_not_thin(part.adapter)):
                lost[part.module] = why
            else:
                parts.setdefault(place, []).append(part)
    parts = _whole_where_they_differ(parts, layout)
    found, own = _with_shapes(parts, sources, layout, left_out, clashes, weights)
    check_sizes(sources, clashes)
    if not found:
        raise LoRAError(_nothing(sources, left_out, layout))
    return Gathered(
        tuple(sources),
        {place: tuple(parts[place]) for place in found},
        found,
        layout,
        {name: lost for name, lost in left_out.items() if lost},
        frozenset(own & found.keys()),
    )


def _placed(
    number: int, source: Source, layout: Layout | None, lost: dict[str, str], clashes: dict[str, str]
) -> Iterator[tuple[Place, Part]]:
    """The parts of a file with their places; what has none in a connected model is lost, else it keeps its name.

    clashes: gets the modules whose place has another shape, with that reason.
    """
    homeless: dict[str, str] = dict.fromkeys(source.file.adapters, "")
    if layout is not None:
        found = match(source.file, layout.shapes)
        for place, adapter in found.found.items():
            yield place, Part(number, found.modules[place], adapter)
        lost |= {module: found.misfit[module] for module in found.rivals}
        homeless = {module: why for module, why in found.misfit.items() if module not in found.rivals}
        clashes.update(homeless)
        if layout.connected:
            lost |= homeless | dict.fromkeys(found.homeless, f"it has no place in {layout.name}")
            return
        homeless |= found.homeless
    for module in homeless:
        yield _own_name(module), Part(number, module, source.file.adapters[module])


def _own_name(module: str) -> str:
    """A name for a module that no model is known for: without what tools put in front, the same in all dialects."""
    return ("" if is_of_encoder(module) else UNET) + (module if is_of_encoder(module) else front_off(module))


def _whole_where_they_differ(parts: dict[Place, list[Part]], layout: Layout | None) -> dict[Place, list[Part]]:
    """The same parts, on the whole weight where files cut it into different rows, or one of them does not cut it."""
    cuts: dict[str, list[Slice]] = {}
    for place in parts:
        if isinstance(place, Slice):
            cuts.setdefault(place.key, []).append(place)
    for key, slices in cuts.items():
        ranges = sorted(at.rows[1:] for at in slices)
        apart = all(first + rows <= then for (first, rows), (then, _) in zip(ranges, ranges[1:]))
        if key in parts or not apart:
            whole = parts.setdefault(key, [])
            for at in slices:
                whole += [replace(part, rows=at.rows[1:]) for part in parts.pop(at)]
    return parts


def _with_shapes(
    parts: dict[Place, list[Part]],
    sources: Sequence[Source],
    layout: Layout | None,
    left_out: dict[str, dict[str, str]],
    clashes: Sequence[dict[str, str]],
    weights: bool,
) -> tuple[dict[Place, tuple[int, ...]], set[Place]]:
    """The shape of each place; of a name of the files' own the one that a file tells, and who differs is lost.

    Where the weight can be had, what tells no shape keeps its place without one.
    """
    shapes: dict[Place, tuple[int, ...]] = {}
    own: set[Place] = set()
    for place, several in parts.items():
        if layout is not None and key_of(place) in layout.shapes:
            wide = [part.adapter.shape for part in several if isinstance(part.adapter, Widening)]
            shapes[place] = max([shape_at(place, layout.shapes), *wide], key=math.prod)
            continue
        own.add(place)
        told: list[tuple[int, ...]] = []
        for part in list(several):
            try:
                told.append(own_shape(part.adapter))
            except LoRAError as error:
                if not weights:
                    left_out[sources[part.source].name][part.module] = str(error)
                    several.remove(part)
        if several and not told:
            shapes[place] = ()
        for shape in sorted(told, key=len, reverse=True)[:1]:
            shapes[place] = shape
            for part in list(several):
                if why := part.adapter.misfit(shape):
                    left_out[sources[part.source].name][part.module] = why
                    clashes[part.source][part.module] = f"{key_of(place)}: {why}"
                    several.remove(part)
    return shapes, own


def thins_at(
    gathered: Gathered, place: Place, weight_of: WeightOf | None = None, dtype: torch.dtype = torch.float32
) -> list[Thin | None]:
    """The exact change that each file makes at a place, at strength 1; None for a file that makes none.

    `weight_of` gives a base weight by its key; it is asked only where an adapter depends on the weight.
    """
    shape = gathered.shapes[place]
    found: list[Thin | None] = [None] * len(gathered.sources)
    for number in {part.source for part in gathered.layers[place]}:
        thins = []
        for part in (part for part in gathered.layers[place] if part.source == number):
            needed = weight_of is not None and part.adapter.needs_weight
            weight = part_of(weight_of(key_of(place)), place) if needed and weight_of else None
            thins.append(_thin(part, shape, weight, dtype))
        found[number] = thins[0] if len(thins) == 1 else _joined(thins)
    return found


def _thin(part: Part, shape: tuple[int, ...], weight: Tensor | None, dtype: torch.dtype) -> Thin:
    """The change of a part, in the rows of the weight that are its own."""
    if part.rows is None:
        return _widened(part.adapter, shape, weight, dtype)
    first, rows = part.rows
    own = None if weight is None else weight.narrow(0, first, rows)
    inner = thin_of(part.adapter, (rows, *shape[1:]), own, dtype)
    up = inner.up.new_zeros(shape[0], inner.rank)
    up[first : first + rows] = inner.up
    return Thin(up, inner.down, shape)


def _widened(adapter: Adapter, shape: tuple[int, ...], weight: Tensor | None, dtype: torch.dtype) -> Thin:
    """The change of a whole weight, with zeros for the inputs that a control LoRA of another file gives it."""
    if isinstance(adapter, Widening):
        inner, own = thin_of(adapter.inner, adapter.shape, dtype=dtype), adapter.shape
    elif adapter.misfit(shape) is None or len(shape) < 2:
        return thin_of(adapter, shape, weight, dtype)
    else:
        own = own_shape(adapter)
        inner = thin_of(adapter, own, weight, dtype)
    down = widen(inner.matrix().reshape(own), shape) if inner.dense else inner.down.reshape(-1, *own[1:])
    if inner.dense:
        return dense_thin(down, shape)
    return Thin(inner.up, widen(down, (inner.rank, *shape[1:])).flatten(1), shape)


def _joined(thins: Sequence[Thin]) -> Thin:
    """The sum of the parts of one file; parts that share their down, as a fused LoRA that was split, keep its rank."""
    first = thins[0]
    if all(one.down.shape == first.down.shape and torch.equal(one.down, first.down) for one in thins):
        return replace(first, up=torch.stack([one.up for one in thins]).sum(0), dense=False)
    return add(thins, [1.0] * len(thins))


def strengths_of(gathered: Gathered) -> list[dict[Place, float]]:
    """The strength of each file at each place, as a loader means it: by what the place belongs to, times the block's.

    Raises:
        LoRAError: selectors of blocks that select nothing, in a sentence that names the file.
    """
    known: dict[Place, None] = dict.fromkeys(gathered.layout.shapes if gathered.layout else ())
    known |= dict.fromkeys(gathered.layers)
    found = []
    for source in gathered.sources:
        factors: Mapping[Place, float] = {}
        if source.blocks.strip():
            try:
                factors = select(source.blocks, known).strengths
            except LoRAError as error:
                raise LoRAError(f"the blocks for {source.name}: {error}") from error
        of_model = {place: key_of(place).startswith(UNET) for place in gathered.layers}
        found.append(
            {
                place: (source.strength_model if of_model[place] else source.strength_clip) * factors.get(place, 1.0)
                for place in gathered.layers
            }
        )
    return found


def words_of(sources: Sequence[Source], words: Callable[[Mapping[str, str]], Sequence[str]]) -> list[str]:
    """The trigger words of all files, each once, in the files' order."""
    joined = ", ".join(word for source in sources for word in words(source.metadata))
    return list(split_words(joined))


def _nothing(sources: Sequence[Source], left_out: Mapping[str, Mapping[str, str]], layout: Layout | None) -> str:
    name, lost = next(((name, lost) for name, lost in left_out.items() if lost), (sources[0].name, {}))
    module, why = next(iter(lost.items()), ("", "there is no adapter in it"))
    where = f" in {layout.name}" if layout else ""
    return f"no module of {' and '.join(source.name for source in sources)} can be used{where}: {name}, {module}: {why}"
