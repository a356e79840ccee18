"""LoRA adapters as patches on ComfyUI's MODEL, CLIP and our ClipModel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import comfy.lora
import comfy.model_patcher
import comfy.sd
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoRAAdapter
from comfy.weight_adapter.base import WeightAdapterBase
from torch import Tensor, nn

from ....lora.kinds.adapters import LoRA, put_together, take_apart
from ....lora.kinds.whole import Replacement
from ....lora.kinds.widening import Widening
from ....lora.models.match import key_of, part_of
from ....lora.models.places import Place
from ....lora.weights.fusing import Change, Fused, fuse, write
from ....lora.weights.measuring import Kept, Size, Stored, kept_of, sample_of
from ....lora.weights.patching import part_norms, part_sizes
from ..shared.clip_vision import marked
from . import stored
from .clip import ComfyClipModel

_COMPILED = "_orig_mod."  # torch.compile's wrapper, in the names of what is inside it
_MOST_KEPT = 24  # places whose rounding is looked at, four rows of each


def weights(target: ModelPatcher | comfy.sd.CLIP | ComfyClipModel) -> dict[str, tuple[int, ...]]:
    """Quantised weights have the shape of what they stand for, not that of the packed numbers in the state dict."""
    return {name: tuple(weight.shape) for name, weight in _parameters(_patcher(target)).items()}


def packed_by(target) -> str:
    return stored.packed_by(_patcher(target).model)


def sizes(target, places: Sequence[Place]) -> dict[Place, Size]:
    patcher = _patcher(target)
    parameters = _unpatched(patcher)

    def sample(place: Place) -> Stored | None:
        key = key_of(place)
        if (found := _stored(parameters, key)) is not None:
            return Stored(part_of(found.values, place), found.scale)
        weight = parameters[key]
        storage = stored.storage_of(_layer(patcher, key), weight)
        if storage is None:
            return None
        return Stored(storage.rows(_sample(place, weight)), None, _rows(place, weight)[1])

    return part_sizes(patcher.model, places, sample)


def norms(target, places: Sequence[Place], on_step: Callable[[int, int], None]) -> dict[Place, float]:
    patcher = _patcher(target)
    parameters = _unpatched(patcher)

    def is_known(key: str) -> bool:
        weight = parameters[key]
        if stored.is_quantised(weight) or _stored(parameters, key) is not None:
            return True
        return stored.storage_of(_layer(patcher, key), weight) is not None

    known = [place for place in places if is_known(key_of(place))]
    return part_norms(known, lambda key: _whole(patcher, parameters, key), on_step)


def base_weight(target, key: str, *, changed: bool = False) -> Tensor:
    patcher = _patcher(target)
    weight = _whole(patcher, _unpatched(patcher), key)
    if type(weight) not in stored.PLAIN or not weight.is_floating_point():
        raise ValueError(f"the weight {key} is in a form that is not known here: load the model as fp16 or fp8")
    own = {name.replace(_COMPILED, ""): own for name, own in patcher.patches.items()}.get(key) if changed else None
    return comfy.lora.calculate_weight(own, weight.detach().float().clone(), key) if own else weight.detach()


def _whole(patcher: ModelPatcher, parameters: Mapping[str, Tensor], key: str) -> Tensor:
    """A weight, dequantised where its form is known."""
    if (found := _stored(parameters, key)) is not None:
        return found.values if found.scale is None else found.values.float() * found.scale.to(found.values.device)
    unpacked = stored.unpacked(_layer(patcher, key), parameters[key])
    return parameters[key] if unpacked is None else unpacked


def kept(target, changes: Mapping[Place, Sequence[Change]]) -> Kept | None:
    patcher = _patcher(target)
    parameters = _unpatched(patcher)
    plain = [place for place, several in changes.items() if all(isinstance(one.adapter, LoRA) for one in several)]
    narrow = [place for place in plain if _is_narrow(_layer(patcher, key_of(place)), parameters[key_of(place)])]
    sums, forms = torch.zeros(4, dtype=torch.float64), {}
    for place in narrow[:: max(1, -(-len(narrow) // _MOST_KEPT))]:
        key = key_of(place)
        storage = stored.storage_of(_layer(patcher, key), parameters[key])
        if storage is not None:
            forms[storage.form] = None
            sums += _kept_sums(storage, place, parameters[key], changes[place])
    return kept_of(" and ".join(forms), sums.tolist())


def _kept_sums(storage: stored.Storage, place: Place, weight: Tensor, changes: Sequence[Change]) -> Tensor:
    """The sums of `kept_of` for one place, estimated from some rows. -> [4], fp64, on the CPU"""
    (first, total), numbers = _rows(place, weight), _sample(place, weight)
    own = [number - first for number in numbers]
    before = storage.rows(numbers).flatten(1)
    asked = torch.zeros_like(before)
    for lora, strength in changes:
        up, down = LoRA(lora.up[own], lora.down, lora.alpha, lora.mid).factors(strength)
        asked += (up @ down).to(asked.device)
    shape = (len(numbers), *weight.shape[1:])
    applied = asked
    if storage.keep is not None:
        applied = storage.keep((before + asked).reshape(shape), _seed_of(key_of(place))).flatten(1) - before
    pairs = ((before, before), (asked, asked), (applied, applied), (asked, applied))
    return torch.stack([(one * other).sum() for one, other in pairs]).double().cpu() * (total / max(1, len(numbers)))


def _is_narrow(layer: nn.Module | None, weight: Tensor) -> bool:
    """Whether a weight is stored in eight bits or fewer a number."""
    return stored.is_quantised(weight) or stored.is_ggml(layer, weight) or weight.element_size() == 1


def _rows(place: Place, weight: Tensor) -> tuple[int, int]:
    """The first row of a place in a weight, and the number of its rows."""
    return (0, weight.shape[0]) if isinstance(place, str) else place.rows[1:]


def _sample(place: Place, weight: Tensor) -> list[int]:
    """The numbers of the rows that stand for a place in a report."""
    first, total = _rows(place, weight)
    return [first + number for number in sample_of((total, *weight.shape[1:]))]


def _layer(patcher: ModelPatcher, key: str) -> nn.Module | None:
    try:
        return patcher.model.get_submodule(key.rpartition(".")[0])
    except AttributeError:
        return None


def _parameters(patcher: ModelPatcher) -> dict[str, Tensor]:
    """As torch's `named_parameters`, which takes four times as long for a module within a module within a module.

    A compiled layer has the names that it has in a model that is not compiled, which are those while it is loaded.
    """
    found: dict[str, Tensor] = {}

    def add(module: nn.Module, prefix: str) -> None:
        found.update((prefix + name, own) for name, own in module._parameters.items() if own is not None)
        for name, inner in module._modules.items():
            if inner is not None:
                add(inner, prefix if name == _COMPILED[:-1] else f"{prefix}{name}.")

    add(patcher.model, "")
    return found


def _unpatched(patcher: ModelPatcher) -> dict[str, Tensor]:
    """The weights as the model keeps them, without the patches that may be on them at this moment."""
    backup = {key.replace(_COMPILED, ""): kept.weight for key, kept in patcher.backup.items()}
    return _parameters(patcher) | backup


def _stored(parameters: Mapping[str, Tensor], key: str) -> Stored | None:
    """A weight whose rows lie as they are, with its scale where it has one; None for what is packed.

    0.3.64 keeps the scale of scaled fp8 beside the weight (comfy/ops.py `scaled_fp8_ops`), 0.33.0 inside a tensor of a
    class of its own (comfy_kitchen's QuantizedTensor), where fp8 has one scale and its rows lie as they are.
    """
    weight = parameters[key]
    if stored.is_quantised(weight):
        fp8 = str(getattr(weight, "_layout_cls", "")).startswith("TensorCoreFP8")
        return _one_scale(weight._qdata, getattr(weight._params, "scale", None)) if fp8 else None
    if type(weight) not in stored.PLAIN or weight.is_meta or not weight.is_floating_point():
        return None
    stem = key.removesuffix(".weight")
    return _one_scale(weight, parameters.get(f"{stem}.scale_weight") if stem != key else None)


def _one_scale(values: Tensor, scale: Tensor | None) -> Stored | None:
    return Stored(values, scale) if scale is None or scale.numel() == 1 else None


def patched(target, changes: Mapping[Place, Sequence[Change]], *, match_comfyui: bool = False):
    if isinstance(target, comfy.sd.CLIP | ModelPatcher):
        changed = target.clone()
    else:
        changed = dataclasses.replace(target, patcher=target.patcher.clone(), marks=marked(target.marks, changes))
    by_strength: dict[float, dict[Place, WeightAdapterBase | tuple]] = {}
    for place, several in changes.items():
        strength, adapter = _adapter(several, match_comfyui)
        by_strength.setdefault(strength, {})[place] = adapter
    patcher = _patcher(changed)
    compiled = {key.replace(_COMPILED, "") for key in patcher.model.state_dict() if _COMPILED in key}
    taken = [place for strength, patches in by_strength.items() for place in _add(patcher, patches, strength, compiled)]
    refused = sorted(map(str, set(changes) - set(taken)))  # add_patches drops what it does not know without a word
    if refused:
        raise RuntimeError(
            f"ComfyUI took {len(taken)} of {len(changes)} patches; it refused {refused[0]} and {len(refused) - 1} "
            "more. Nothing was patched; please report this with the model's name"
        )
    return changed


def _add(
    patcher: ModelPatcher, patches: Mapping[Place, WeightAdapterBase | tuple], strength: float, compiled: set[str]
) -> list[Place]:
    """Adds patches, and returns the places that were taken.

    While another copy of the model is loaded with a compiled network in the place of its own (`add_object_patch`),
    `add_patches` finds none of the `compiled` keys, which the model has when this copy is loaded. They are entered here
    as it would.
    """
    own = {place: patch for place, patch in patches.items() if key_of(place) not in compiled}
    taken = list(patcher.add_patches(own, strength))
    for place in patches.keys() - own.keys():
        entry = (strength, patches[place], 1.0, None if isinstance(place, str) else place.rows, None)
        patcher.patches.setdefault(key_of(place), []).append(entry)
        taken.append(place)
    return taken


def _seed_of(key: str) -> int:
    """The seed with which ComfyUI rounds this weight; the function moved after 0.3.64."""
    seed = getattr(comfy.utils, "string_to_seed", None) or comfy.model_patcher.string_to_seed
    return seed(key)


class FusedPatch(WeightAdapterBase):
    """All changes of one weight as one patch, written in place into the copy that ComfyUI hands in.

    That copy is fp32, or fp16 where 0.33.0 computes patches in it (`lora_compute_dtype`), or what the layer computes in
    (`LowVramPatch`). ComfyUI rounds it to the stored type when all patches are on it, fp8 stochastically with the
    key's own seed: nothing is rounded here but to the type of the copy, once.

    `weights` is (factors, others, match_comfyui, shape): the plain LoRAs as one pair of thin factors, or (); of each
    other change its strength and its adapter taken apart; and the shape to which a control LoRA widens the weight, or
    (). 0.33.0 counts and moves the tensors of plain tuples when it streams weights, and makes
    `type(patch)(loaded_keys, weights)` of them (comfy/lora.py `prefetch_prepared_value`).
    """

    name = "clip_vae_lora"

    def __init__(self, loaded_keys: set[str], weights: tuple[tuple, tuple, bool, tuple[int, ...]]):
        self.loaded_keys, self.weights = loaded_keys, weights

    @classmethod
    def of(cls, changes: Sequence[Change], match_comfyui: bool) -> FusedPatch:
        fused = fuse(changes)
        others = tuple((strength, take_apart(adapter)) for adapter, strength in fused.others)
        return cls(set(), (fused.factors or (), others, match_comfyui, fused.shape or ()))

    def calculate_shape(self, key: str) -> tuple[int, ...] | None:
        """The shape that the weight will have, where it becomes wider; 0.33.0 asks before it streams a weight."""
        return self.weights[3] or None

    def calculate_weight(
        self,
        weight,
        key,
        strength,
        strength_model,
        offset,
        function,
        intermediate_dtype=None,
        original_weight=None,
    ) -> Tensor:
        factors, others, match_comfyui, shape = self.weights
        changes = tuple(Change(put_together(parts), own) for own, parts in others)
        fused = Fused(factors or None, changes, shape or None)
        return write(weight, weight, fused, strength, match_comfyui=match_comfyui)


def _patcher(target) -> ModelPatcher:
    return target if isinstance(target, ModelPatcher) else target.patcher


def _adapter(changes: Sequence[Change], match_comfyui: bool) -> tuple[float, WeightAdapterBase | tuple]:
    """A strength and a patch: ComfyUI's own for one plain LoRA or one new value, ours for everything else."""
    adapter, strength = changes[0]
    if len(changes) == 1 and isinstance(adapter, LoRA):
        return strength, _stock(adapter, None)
    if len(changes) == 1 and isinstance(adapter, Widening):
        return strength, _stock(adapter.inner, adapter.shape)
    if len(changes) == 1 and isinstance(adapter, Replacement) and (strength == 1.0 or match_comfyui):
        return 1.0, ("set", (adapter.value,))
    return 1.0, FusedPatch.of(changes, match_comfyui)


def _stock(lora: LoRA, shape: Sequence[int] | None) -> LoRAAdapter:
    return LoRAAdapter(set(), (lora.up, lora.down, lora.alpha, lora.mid, None, shape))
