"""Matching: each adapter of a file gets its place in a model, or the reason why it has none."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

import torch
from torch import Tensor

from ..formats.read import LoRAFile
from ..kinds.adapters import Adapter, LoRA, LoRAError
from ..kinds.magnitude import IA3
from ..kinds.whole import Difference
from ..kinds.widening import widening_of
from .mmdit import Place, Slice, Target
from .names import target_map

_NEIGHBOURS, _MAX_CHARS = 5, 300
_BIAS, _WEIGHT, _SCALE = ".bias", ".weight", ".scale"
_READS_MORE = "diffusion_model.img_in.weight"  # ComfyUI gives Flux as many inputs as this weight has columns


@dataclass(frozen=True)
class Match:
    """The adapters of a file in a model.

    found: place in the model -> adapter. homeless: module without a place -> the model's nearest key. misfit: module
    with a place that it cannot change -> the reason.

    A place is a key of the model, or `Slice(key, (0, first row, rows))`, which `part_of` cuts out of the weight. Every
    adapter of the file is in exactly one of the three. `modules` has the file's name for each place in `found`. (PEFT's
    (IA)^3 stands there twice where the layer has a bias, because it scales the bias too.)
    """

    found: dict[Place, Adapter]
    homeless: dict[str, str]
    misfit: dict[str, str]
    modules: dict[Place, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Swapped:
    """An adapter that was trained on a weight with swapped halves of rows, such as diffusers' (scale, shift) of adaLN.

    It exchanges the halves around the inner adapter, so that the model's own order is changed.
    """

    inner: Adapter

    @property
    def kind(self) -> str:
        return self.inner.kind

    @property
    def rank(self) -> int:
        return self.inner.rank

    @property
    def alpha(self) -> float | None:
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
    """Match finds the place of each adapter of a file in a model, by the names and shapes of the model's state dict.

    Two modules of the file with one place, or a whole weight and rows of it, are both misfits: which of them was meant
    is unknown. A weight and its bias are placed together or not at all.

    Args:
        file: what `formats.read.read` returned.
        shapes: the model's keys -> shapes, `diffusion_model.*`, `clip_l.transformer.*` and the like, or any network's.

    Returns:
        The places with their adapters, and the modules that have none, with the nearest key or the reason.

    Raises:
        Nothing: a file that fits nothing is a Match whose `found` is empty.

    >>> import torch
    >>> from ..formats.read import read
    >>> name = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    >>> file = read({f"{name}.lora_up.weight": torch.ones(8, 2), f"{name}.lora_down.weight": torch.ones(2, 4)})
    >>> key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    >>> list(match(file, {key: (8, 4)}).found) == [key]
    True
    >>> print(match(file, {key: (8, 6)}).misfit[name].partition(": ")[2])
    the adapter is for a weight of shape [8, 4], the model's weight has shape [8, 6]
    """
    # Look up the target of every module, and note which modules want the same place.
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
    # Of modules that have a place of their own, those whose shape fits are found.
    found: dict[Place, Adapter] = {}
    names: dict[Place, str] = {}
    misfit = _rivals(owners)
    for module, target in placed.items():
        if module in misfit:
            continue
        adapter = _widen_input(file.adapters[module], target.place, shapes)
        if reason := adapter.misfit(shape_at(target.place, shapes)):
            misfit[module] = f"{key_of(target.place)}: {reason}"
        else:
            found[target.place] = _swap_adapter(adapter) if target.swapped else adapter
            names[target.place] = module
    # A weight without its bias, or a bias without its weight, would be half a change.
    homeless = _nearest_keys(homeless_modules, targets)
    _drop_halves_(found, names, {**homeless, **misfit}, misfit)
    _add_scaled_biases_(found, names, shapes)
    return Match(found, homeless, misfit, names)


def key_of(place: Place) -> str:
    """The model's key of a place."""
    return place if isinstance(place, str) else place.key


def part_of(weight: Tensor, place: Place) -> Tensor:
    """The rows of a weight that a place names, as a view; the weight itself where the place is a whole key."""
    return weight if isinstance(place, str) else weight.narrow(*place.rows)


def shape_at(place: Place, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """The shape of the weight, or of the rows of a weight, at a place."""
    if isinstance(place, str):
        return tuple(shapes[place])
    return place.rows[2], *tuple(shapes[place.key])[1:]


def _target(module: str, targets: Mapping[str, Target], shapes: Mapping[str, Sequence[int]]) -> Target | None:
    """The target of a module. A bias lies beside its module's weight, in the same rows and the same order.

    Flux' norms call their numbers `scale` in some versions of the model and `weight` in others.
    """
    if target := targets.get(module) or targets.get(module.removesuffix(_SCALE)) or targets.get(module + _SCALE):
        return target
    target = targets.get(module.removesuffix(_BIAS)) if module.endswith(_BIAS) else None
    if target is None:
        return None
    place, key = target.place, key_of(target.place).removesuffix(_WEIGHT) + _BIAS
    if key not in shapes:
        return None
    return Target(Slice(key, place.rows) if isinstance(place, Slice) else key, target.swapped)


def _widen_input(adapter: Adapter, place: Place, shapes: Mapping[str, Sequence[int]]) -> Adapter:
    """The adapter, as a control LoRA where it is of Flux' first layer and of a multiple of its inputs."""
    if place != _READS_MORE or not any(key.startswith("diffusion_model.double_blocks.0.") for key in shapes):
        return adapter
    return widening_of(adapter, shapes[_READS_MORE]) or adapter


def _rivals(owners: Mapping[Place, list[str]]) -> dict[str, str]:
    """The modules whose place another module claims too -> the reason."""
    misfit: dict[str, str] = {}
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


def _drop_halves_(
    found: dict[Place, Adapter], names: dict[Place, str], lost: Mapping[str, str], misfit: dict[str, str]
) -> None:
    """Weight and bias of a module are placed together or not at all: drops a half whose partner is lost."""
    for place, module in list(names.items()):
        other = module.removesuffix(_BIAS) if module.endswith(_BIAS) else module + _BIAS
        if other in lost:
            del found[place], names[place]
            misfit[module] = f"{other}, which belongs to it, has no place or does not fit"


def _add_scaled_biases_(
    found: dict[Place, Adapter], names: dict[Place, str], shapes: Mapping[str, Sequence[int]]
) -> None:
    """Adds the biases that PEFT's (IA)^3 scales together with its rows."""
    for place, adapter in list(found.items()):
        bias = key_of(place).removesuffix(_WEIGHT) + _BIAS
        if isinstance(adapter, IA3) and adapter.with_bias and bias in shapes and isinstance(place, str):
            if adapter.axis(shapes[place]) == 0 and bias not in found:
                found[bias], names[bias] = adapter, names[place]


def _swap_adapter(adapter: Adapter) -> Adapter:
    """The adapter with its halves of rows exchanged: in its tensors for the two plain kinds, around the others."""
    if isinstance(adapter, LoRA) and adapter.up.shape[0] % 2 == 0:
        return replace(adapter, up=_swap(adapter.up))
    if isinstance(adapter, Difference) and adapter.value.shape[0] % 2 == 0:
        return replace(adapter, value=_swap(adapter.value))
    return Swapped(adapter)


def _swap(rows: Tensor) -> Tensor:
    if rows.shape[0] % 2:
        raise LoRAError(f"{rows.shape[0]} rows have no halves to be exchanged")
    return torch.cat(rows.chunk(2)[::-1])


def _nearest_keys(modules: list[str], targets: Mapping[str, Target]) -> dict[str, str]:
    """The key with the most similar spelling for each module; "" for a model without keys.

    Comparing a name with every spelling takes minutes for a file of another model. So it is compared with its
    neighbours in the alphabet only, once in names read from the front and once in names read from the back.
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
    """The neighbours of a name in a sorted list."""
    place = bisect_left(ordered, name)
    return ordered[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS]
