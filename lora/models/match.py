"""Where the adapters of a file belong in a model, and which of them have no place there."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

import torch
from torch import Tensor

from ..formats.read import LoRAFile
from ..kinds.adapters import Adapter, Difference, LoRA, LoRAError
from ..kinds.magnitude import IA3
from .mmdit import Place, Slice, Target
from .names import target_map

_NEIGHBOURS, _MAX_CHARS = 5, 300
_BIAS, _WEIGHT = ".bias", ".weight"


@dataclass(frozen=True)
class Match:
    """found: place in the model -> adapter; homeless: module -> the model's nearest key; misfit: module -> why not.

    A place is a key of the model, or `Slice(key, (0, first row, rows))`, which `part_of` cuts out of the weight. Every
    adapter of the file is in exactly one of the three; `modules` has the file's name for each place in `found`. (PEFT's
    (IA)^3 is found twice where the layer has a bias, which it scales too.)
    """

    found: dict[Place, Adapter]
    homeless: dict[str, str]
    misfit: dict[str, str]
    modules: dict[Place, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Swapped:
    """An adapter of a weight whose two halves of rows lie the other way round in the file (adaLN's scale and shift)."""

    inner: Adapter

    @property
    def kind(self) -> str:
        return self.inner.kind

    @property
    def rank(self) -> int:
        return self.inner.rank

    @property
    def alpha(self) -> float:
        return self.inner.alpha

    @property
    def needs_weight(self) -> bool:
        return self.inner.needs_weight

    @property
    def extent(self) -> tuple[int | None, int | None]:
        return self.inner.extent

    def misfit(self, shape: Sequence[int]) -> str | None:
        return self.inner.misfit(shape)

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter."""
        turned = _swap(weight) if isinstance(weight, Tensor) else weight
        return _swap(self.inner.delta(turned, strength, match_comfyui=match_comfyui))


def match(file: LoRAFile, shapes: Mapping[str, Sequence[int]]) -> Match:
    """Each adapter of the file to its place, by the names and shapes of the model's state dict.

    Two modules of the file that mean one place, or a whole weight and rows of it, are both misfits: which of them was
    meant is unknown. A weight and its bias are taken together or not at all.
    """
    targets = target_map(shapes)
    owners: dict[Place, list[str]] = {}
    placed: dict[str, Target] = {}
    homeless_modules = []
    for module in file.adapters:
        if target := _target(module, targets, shapes):
            placed[module] = target
            owners.setdefault(target.place, []).append(module)
        else:
            homeless_modules.append(module)
    found, misfit, names = {}, _rivals(owners), {}
    for module, target in placed.items():
        if module in misfit:
            continue
        adapter = file.adapters[module]
        if reason := adapter.misfit(shape_at(target.place, shapes)):
            misfit[module] = f"{key_of(target.place)}: {reason}"
        else:
            found[target.place] = _swapped(adapter) if target.swapped else adapter
            names[target.place] = module
    homeless = _nearest(homeless_modules, targets)
    _take_whole(found, names, {**homeless, **misfit}, misfit)
    _add_scaled_biases(found, names, shapes)
    return Match(found, homeless, misfit, names)


def key_of(place: Place) -> str:
    return place if isinstance(place, str) else place.key


def part_of(weight: Tensor, place: Place) -> Tensor:
    """The rows of a weight that a place names, as a view; the weight itself where the place is a whole key."""
    return weight if isinstance(place, str) else weight.narrow(*place.rows)


def shape_at(place: Place, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    if isinstance(place, str):
        return tuple(shapes[place])
    return place.rows[2], *tuple(shapes[place.key])[1:]


def _target(module: str, targets: Mapping[str, Target], shapes: Mapping[str, Sequence[int]]) -> Target | None:
    """A bias lies beside its module's weight, in the same rows and the same order."""
    if target := targets.get(module):
        return target
    target = targets.get(module.removesuffix(_BIAS)) if module.endswith(_BIAS) else None
    key = key_of(target.place).removesuffix(_WEIGHT) + _BIAS if target else ""
    if key not in shapes:
        return None
    place = target.place
    return Target(Slice(key, place.rows) if isinstance(place, Slice) else key, target.swapped)


def _rivals(owners: Mapping[Place, list[str]]) -> dict[str, str]:
    """The modules that want what another one wants too."""
    misfit = {}
    parts = {place.key for place in owners if isinstance(place, Slice)}
    for place, modules in owners.items():
        key = key_of(place)
        if len(modules) > 1:
            misfit |= {module: f"{' and '.join(modules)} both change {key}: only one may" for module in modules}
        elif isinstance(place, str) and place in parts:
            rivals = [other for at, others in owners.items() if key_of(at) == key for other in others]
            why = f"{' and '.join(rivals)} all change {key}: either the whole or its parts may"
            misfit |= dict.fromkeys(rivals, why)
    return misfit


def _take_whole(
    found: dict[Place, Adapter], names: dict[Place, str], lost: Mapping[str, str], misfit: dict[str, str]
) -> None:
    """Takes out of `found` what is half of a module whose other half is lost."""
    for place, module in list(names.items()):
        other = module.removesuffix(_BIAS) if module.endswith(_BIAS) else module + _BIAS
        if other in lost:
            del found[place], names[place]
            misfit[module] = f"{other}, which belongs to it, has no place or does not fit"


def _add_scaled_biases(
    found: dict[Place, Adapter], names: dict[Place, str], shapes: Mapping[str, Sequence[int]]
) -> None:
    for place, adapter in list(found.items()):
        bias = key_of(place).removesuffix(_WEIGHT) + _BIAS
        if isinstance(adapter, IA3) and adapter.with_bias and bias in shapes and isinstance(place, str):
            if adapter.axis(shapes[place]) == 0 and bias not in found:
                found[bias], names[bias] = adapter, names[place]


def _swapped(adapter: Adapter) -> Adapter:
    if isinstance(adapter, LoRA) and adapter.up.shape[0] % 2 == 0:
        return replace(adapter, up=_swap(adapter.up))
    if isinstance(adapter, Difference) and adapter.value.shape[0] % 2 == 0:
        return replace(adapter, value=_swap(adapter.value))
    return Swapped(adapter)


def _swap(rows: Tensor) -> Tensor:
    if rows.shape[0] % 2:
        raise LoRAError(f"{rows.shape[0]} rows have no halves to be exchanged")
    return torch.cat(rows.chunk(2)[::-1])


def _nearest(modules: list[str], targets: Mapping[str, Target]) -> dict[str, str]:
    """module -> the key whose spelling is most like it; "" for a model without keys.

    Comparing with every spelling takes minutes for a file of another model, so only the names around its place in the
    alphabet are compared, reading from the front and from the back.
    """
    if not modules:
        return {}
    names = {name: key_of(target.place) for name, target in targets.items()}
    forward = sorted(names)
    backward = sorted(name[::-1] for name in names)
    nearest = {}
    for module in modules:
        name = module[:_MAX_CHARS]
        near = _around(forward, name) + [other[::-1] for other in _around(backward, name[::-1])]
        best = max(near, key=lambda other: SequenceMatcher(None, name, other, autojunk=False).ratio(), default="")
        nearest[module] = names.get(best, "")
    return nearest


def _around(ordered: list[str], name: str) -> list[str]:
    place = bisect_left(ordered, name)
    return ordered[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS]
