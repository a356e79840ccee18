"""Matching: each adapter of a file gets its place in a model, or the reason why it has none."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from torch import Tensor

from ..families.patterns import count_known, pattern
from ..families.table import are_kin
from ..formats.read import LoRAFile
from ..kinds.adapters import Adapter
from ..kinds.magnitude import IA3
from ..kinds.widening import widening_of
from .names import Found, Names, front_off, target_map
from .places import Place, Slice, Target
from .rows import at_target

_NEIGHBOURS, _MAX_CHARS = 5, 300
_BIAS, _WEIGHT = ".bias", ".weight"
_READS_MORE = "diffusion_model.img_in.weight"  # ComfyUI gives Flux as many inputs as this weight has columns
_OF_ENCODERS = ("text_model.", "text_projection", "vision_model.", "visual", "lora_te", "lora_vision", "text_encoder")


HostNames = Callable[[], Mapping[str, Target]]


@dataclass(frozen=True)
class Match:
    """The adapters of a file in a model.

    found: place in the model -> adapter. homeless: module without a place -> the model's nearest key. misfit: module
    with a place that it cannot change -> the reason.

    A place is a key of the model, or `Slice(key, (0, first row, rows))`, which `part_of` cuts out of the weight. Every
    adapter of the file is in exactly one of the three. `modules` has the file's name for each place in `found`. (PEFT's
    (IA)^3 stands there twice where the layer has a bias, because it scales the bias too.) `rivals` are the misfits that
    want the place of another module of the file.
    """

    found: dict[Place, Adapter]
    homeless: dict[str, str]
    misfit: dict[str, str]
    modules: dict[Place, str] = field(default_factory=dict)
    rivals: frozenset[str] = frozenset()


def match(file: LoRAFile, shapes: Mapping[str, Sequence[int]], host_names: HostNames | None = None) -> Match:
    """Match finds the place of each adapter of a file in a model, by the names and shapes of the model's state dict.

    Two modules of the file with one place, or a whole weight and rows of it, are both misfits: which of them was meant
    is unknown. A weight and its bias are placed together or not at all.

    Args:
        file: what `formats.read.read` returned.
        shapes: the model's keys -> shapes, `diffusion_model.*`, `clip_l.transformer.*` and the like, or any network's.
        host_names: gives the names that the host knows for this model; it is asked where one is unknown here.

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
    names_of_model = target_map(shapes)
    owners: dict[Place, list[str]] = {}
    placed = _targets(file, names_of_model, host_names)
    for module, targets in placed.items():
        for target in targets:
            owners.setdefault(target.place, []).append(module)
    # Of modules that have a place of their own, those whose shape fits are found.
    found: dict[Place, Adapter] = {}
    names: dict[Place, str] = {}
    misfit = _rivals(owners)
    rivals = frozenset(misfit)
    for module, targets in placed.items():
        if module in misfit:
            continue
        parts = {
            target.place: _widen_input(at_target(file.adapters[module], target), target.place, shapes)
            for target in targets
        }
        reasons = [(place, why) for place, part in parts.items() if (why := part.misfit(shape_at(place, shapes)))]
        if reasons:
            misfit[module] = f"{key_of(reasons[0][0])}: {reasons[0][1]}"
        else:
            found |= parts
            names |= dict.fromkeys(parts, module)
    # A weight without its bias, or a bias without its weight, would be half a change.
    homeless = _nearest_keys([module for module, targets in placed.items() if not targets], names_of_model)
    _drop_halves_(found, names, {**homeless, **misfit}, misfit)
    _add_scaled_biases_(found, names, shapes)
    return Match(found, homeless, misfit, names, rivals)


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


def _targets(file: LoRAFile, names: Names, host_names: HostNames | None) -> dict[str, tuple[Target, ...]]:
    """The targets of each module; none for a name that means nothing here.

    Names of a diffusion model that do not say whose they are count only where most of them are known: another family
    has some of the same (`img_in`, `attn.to_q`), and would be applied in part.
    """
    found = {module: names.find(module) for module in file.adapters}
    unknown = [module for module, (targets, _) in found.items() if not targets]
    known_to_host = host_names() if host_names and unknown else {}
    for module in unknown:
        if (target := known_to_host.get(module)) and key_of(target.place) in names.shapes:
            found[module] = Found((target,), False)
    doubtful = [module for module, (_, sure) in found.items() if not sure and not module.startswith(_OF_ENCODERS)]
    known = [module for module in doubtful if found[module].targets]
    if len(known) < len(doubtful) and _is_foreign(doubtful, len(known), names):
        found |= dict.fromkeys(known, Found((), False))
    return {module: targets for module, (targets, _) in found.items()}


def _is_foreign(modules: Sequence[str], known: int, names: Names) -> bool:
    """Whether these names are those of another family: it knows more of them, and this one less than four fifths."""
    by_family = count_known({pattern(front_off(module)) for module in modules})
    most = max(by_family.values())
    of_kin = [by_family[other] for other in by_family if names.family and are_kin(other, names.family.name)]
    own = max(of_kin) if of_kin else most * known // len(modules)
    return 2 * known < len(modules) or 5 * own < 4 * most


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


def _nearest_keys(modules: list[str], names: Names) -> dict[str, str]:
    """The key with the most similar spelling for each module; "" for a model without keys.

    Comparing a name with every spelling takes minutes for a file of another model. So it is compared with its
    neighbours in the alphabet only, once in names read from the front and once in names read from the back.
    """
    if not modules:
        return {}
    known = names.nearest()
    forward = sorted(known)
    backward = sorted(name[::-1] for name in known)
    nearest = {}
    for module in modules:
        name = front_off(module)[:_MAX_CHARS]
        near = _around(forward, name) + [other[::-1] for other in _around(backward, name[::-1])]
        nearest[module] = known.get(_most_like(name, near), "")
    return nearest


def _most_like(name: str, others: Sequence[str]) -> str:
    """The most similar of other names; one whose bound is no better than the best so far is not compared in full."""
    compare, best, most = SequenceMatcher(None, "", name, autojunk=False), "", -1.0
    for other in dict.fromkeys(others):
        compare.set_seq1(other)
        if compare.real_quick_ratio() > most and compare.quick_ratio() > most and (ratio := compare.ratio()) > most:
            best, most = other, ratio
    return best


def _around(ordered: list[str], name: str) -> list[str]:
    """The neighbours of a name in a sorted list."""
    place = bisect_left(ordered, name)
    return ordered[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS]
