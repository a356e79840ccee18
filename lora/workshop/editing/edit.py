"""Editing one file: its strength, alpha, type and blocks, with the change of every adapter known before and after."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ...kinds.adapters import Adapter, LoRA, LoRAError, is_adapter
from ...kinds.hadamard import LoHa
from ...kinds.kronecker import LoKr
from ...kinds.magnitude import IA3, DoRA, GLoRA
from ...kinds.whole import Difference
from ...kinds.widening import Widening
from ...models.blocks import block_of, select
from ...models.places import Place
from ..gathering import Gathered

KEEP = "keep"
_FACTORS: dict[type, tuple[str, ...]] = {  # the fields that carry the scale, where alpha is to be another number
    LoRA: ("up",),
    LoHa: ("a1",),
    GLoRA: ("a1", "b1"),
}


@dataclass(frozen=True)
class Edit:
    """What changes in the tensors of a file.

    strength: times the change, so that 1 in the new file is this in the old one. alpha: the number in the file; the
    factors are scaled so that the change stays. dtype: of the numbers, None to keep it. keep, drop: selectors of
    blocks, as `models.blocks.select` reads them without a strength; "" for all and for none.

    Raises:
        LoRAError: a strength that is no number or 0, or an alpha that is not above 0.
    """

    strength: float = 1.0
    alpha: float | None = None
    dtype: torch.dtype | None = None
    keep: str = ""
    drop: str = ""

    def __post_init__(self) -> None:
        if not 0 < abs(self.strength) <= 100:
            raise LoRAError(f"the strength is {self.strength}: expected a number from -100 to 100 that is not 0")
        if self.alpha is not None and not 0 < self.alpha <= 1e9:
            raise LoRAError(f"the alpha is {self.alpha}: expected a number above 0")

    @property
    def asked(self) -> bool:
        return self != Edit()


@dataclass(frozen=True, eq=False)
class Edited:
    """The adapters that stay, by place; dropped: those that the blocks leave out; refused: place -> why it stays as it
    was, or goes.
    """

    adapters: dict[Place, Adapter]
    dropped: tuple[Place, ...]
    refused: dict[Place, str]


def edit(gathered: Gathered, wanted: Edit) -> Edited:
    """Edit the adapters of the only file in a gathering.

    Raises:
        LoRAError: selectors that select nothing, or that leave nothing over.
    """
    adapters = {place: parts[0].adapter for place, parts in gathered.layers.items()}
    kept = _kept(list(adapters), wanted)
    if not kept:
        raise LoRAError("the blocks that are kept and dropped leave nothing of the file: keep more")
    found: dict[Place, Adapter] = {}
    refused: dict[Place, str] = {}
    for place in kept:
        adapter = adapters[place]
        try:
            adapter = strengthened(adapter, wanted.strength)
            adapter = adapter if wanted.alpha is None else with_alpha(adapter, wanted.alpha)
        except LoRAError as error:
            refused[place] = str(error)
        found[place] = adapter if wanted.dtype is None else cast(adapter, wanted.dtype)
    return Edited(found, tuple(place for place in adapters if place not in kept), refused)


def _kept(places: list[Place], wanted: Edit) -> list[Place]:
    strengths = dict.fromkeys(places, 1.0)
    if wanted.keep.strip():
        strengths = select(f"*: 0, {_with_strength(wanted.keep, 1)}", places).strengths
    if wanted.drop.strip():
        dropped = select(_with_strength(wanted.drop, 0), places).strengths
        strengths = {place: strength * dropped[place] for place, strength in strengths.items()}
    return [place for place in places if strengths[place]]


def _with_strength(selectors: str, strength: int) -> str:
    items = [item.partition(":")[0].strip() for item in selectors.replace("\n", ",").replace(";", ",").split(",")]
    return ", ".join(f"{item}: {strength}" for item in items if item)


def blocks_of(places: Mapping[Place, object]) -> list[str]:
    """The blocks that a file changes, each once."""
    return list(dict.fromkeys(block_of(place) for place in places))


def strengthened(adapter: Adapter, strength: float) -> Adapter:
    """The adapter whose change is that of this one at a strength.

    Raises:
        LoRAError: a kind whose change at a strength is no change of the same kind at 1.
    """
    if strength == 1.0:
        return adapter
    if isinstance(adapter, LoKr) and not adapter.rank:
        return _scaled(adapter, "w1", strength)
    if isinstance(adapter, LoRA | LoHa | LoKr | GLoRA):
        return replace(adapter, alpha=adapter.alpha * strength)
    if isinstance(adapter, Widening):
        return replace(adapter, inner=replace(adapter.inner, alpha=adapter.inner.alpha * strength))
    if isinstance(adapter, Difference):
        return _scaled(adapter, "value", strength)
    if isinstance(adapter, IA3):
        return _scaled(adapter, "factors", strength)
    raise LoRAError(f"{adapter.kind} at another strength is no {adapter.kind}: its strength stays 1")


def with_alpha(adapter: Adapter, alpha: float) -> Adapter:
    """The same change with another alpha in the file: the factors take up the difference.

    Raises:
        LoRAError: an alpha of 0, under which nothing is left to be scaled.
    """
    if isinstance(adapter, DoRA):
        return replace(adapter, inner=with_alpha(adapter.inner, alpha))
    if isinstance(adapter, Widening):
        inner = with_alpha(adapter.inner, alpha)
        return replace(adapter, inner=inner) if isinstance(inner, LoRA) else adapter
    if adapter.alpha is None or not adapter.rank or adapter.alpha == alpha:
        return adapter
    if adapter.alpha == 0:
        raise LoRAError("its alpha is 0, so that it changes nothing, whatever its factors are: it stays so")
    factor = adapter.alpha / alpha
    if isinstance(adapter, LoKr):
        name = next(name for name in ("w1", "w1_a") if getattr(adapter, name) is not None)
        return replace(_scaled(adapter, name, factor), alpha=alpha)
    names = _FACTORS.get(type(adapter), ())
    for name in names:
        adapter = _scaled(adapter, name, factor)
    return replace(adapter, alpha=alpha) if names else adapter


def cast(adapter: Adapter, dtype: torch.dtype) -> Adapter:
    """The adapter with its numbers in a type.

    Raises:
        LoRAError: a number that the type cannot hold.
    """
    changed: dict[str, Tensor | Adapter] = {}
    for field in fields(adapter):
        value = getattr(adapter, field.name)
        if is_adapter(value):
            changed[field.name] = cast(value, dtype)
        elif isinstance(value, Tensor) and value.is_floating_point():
            changed[field.name] = _in_type(value, dtype)
    return replace(adapter, **changed)


def _in_type(value: Tensor, dtype: torch.dtype) -> Tensor:
    found = value.to(dtype)
    if found.isfinite().all():
        return found
    raise LoRAError(f"it holds numbers that {str(dtype).removeprefix('torch.')} cannot: choose bf16 or fp32")


def _scaled(adapter: Adapter, name: str, factor: float) -> Adapter:
    """The adapter with one of its tensors times a factor, in that tensor's own type where it can be."""
    value: Tensor = getattr(adapter, name)
    scaled = value.float() * factor
    own = scaled.to(value.dtype)
    return replace(adapter, **{name: own if torch.equal(own.float(), scaled) else scaled})
