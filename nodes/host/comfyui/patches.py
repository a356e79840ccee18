"""LoRA adapters as patches on ComfyUI's MODEL, CLIP and our ClipModel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoRAAdapter
from comfy.weight_adapter.base import WeightAdapterBase
from torch import Tensor, nn

from ....lora.kinds.adapters import LoRA, put_together, take_apart
from ....lora.kinds.whole import Replacement
from ....lora.kinds.widening import Widening
from ....lora.models.match import key_of
from ....lora.models.places import Place
from ....lora.weights.fusing import Change, Fused, fuse, write
from ....lora.weights.measuring import Size, Stored
from ....lora.weights.patching import part_norms, part_sizes
from ..shared.clip_vision import marked
from .clip import ComfyClipModel

_PLAIN = (Tensor, nn.Parameter)  # other classes keep something else than the weight's own numbers


def weights(target: ModelPatcher | comfy.sd.CLIP | ComfyClipModel) -> dict[str, tuple[int, ...]]:
    """Quantised weights have the shape of what they stand for, not that of the packed numbers in the state dict."""
    return {name: tuple(weight.shape) for name, weight in _parameters(_patcher(target)).items()}


def sizes(target, places: Sequence[Place]) -> dict[Place, Size]:
    patcher = _patcher(target)
    parameters = _unpatched(patcher)
    return part_sizes(patcher.model, places, lambda key: _stored(parameters, key))


def norms(target, places: Sequence[Place], on_step: Callable[[int, int], None]) -> dict[Place, float]:
    parameters = _unpatched(_patcher(target))

    def whole(key: str) -> Tensor:
        if (found := _stored(parameters, key)) is None:
            return parameters[key].dequantize().to(torch.float32)
        return found.values if found.scale is None else found.values.float() * found.scale.to(found.values.device)

    def is_known(key: str) -> bool:
        return _is_quantised(parameters[key]) or _stored(parameters, key) is not None

    return part_norms([place for place in places if is_known(key_of(place))], whole, on_step)


def _parameters(patcher: ModelPatcher) -> dict[str, Tensor]:
    """As torch's `named_parameters`, which takes four times as long for a module within a module within a module."""
    found: dict[str, Tensor] = {}

    def add(module: nn.Module, prefix: str) -> None:
        found.update((prefix + name, own) for name, own in module._parameters.items() if own is not None)
        for name, inner in module._modules.items():
            if inner is not None:
                add(inner, f"{prefix}{name}.")

    add(patcher.model, "")
    return found


def _unpatched(patcher: ModelPatcher) -> dict[str, Tensor]:
    """The weights as the model keeps them, without the patches that may be on them at this moment."""
    return _parameters(patcher) | {key: kept.weight for key, kept in patcher.backup.items()}


def _stored(parameters: Mapping[str, Tensor], key: str) -> Stored | None:
    """A weight whose rows can be read one by one, with its scale where it has one; None for what is packed.

    0.3.64 keeps the scale of scaled fp8 beside the weight (comfy/ops.py `scaled_fp8_ops`), 0.33.0 inside a tensor of a
    class of its own (comfy_kitchen's QuantizedTensor), where fp8 has one scale and its rows lie as they are.
    """
    weight = parameters[key]
    if _is_quantised(weight):
        fp8 = str(getattr(weight, "_layout_cls", "")).startswith("TensorCoreFP8")
        return _one_scale(weight._qdata, getattr(weight._params, "scale", None)) if fp8 else None
    if type(weight) not in _PLAIN or weight.is_meta or not weight.is_floating_point():
        return None
    stem = key.removesuffix(".weight")
    return _one_scale(weight, parameters.get(f"{stem}.scale_weight") if stem != key else None)


def _one_scale(values: Tensor, scale: Tensor | None) -> Stored | None:
    return Stored(values, scale) if scale is None or scale.numel() == 1 else None


def _is_quantised(weight: Tensor | None) -> bool:
    return hasattr(weight, "_qdata") and hasattr(weight, "dequantize")


def patched(target, changes: Mapping[Place, Sequence[Change]], *, match_comfyui: bool = False):
    if isinstance(target, comfy.sd.CLIP | ModelPatcher):
        changed = target.clone()
    else:
        changed = dataclasses.replace(target, patcher=target.patcher.clone(), marks=marked(target.marks, changes))
    by_strength: dict[float, dict[Place, WeightAdapterBase | tuple]] = {}
    for place, several in changes.items():
        strength, adapter = _adapter(several, match_comfyui)
        by_strength.setdefault(strength, {})[place] = adapter
    taken = [
        place for strength, patches in by_strength.items() for place in _patcher(changed).add_patches(patches, strength)
    ]
    refused = sorted(map(str, set(changes) - set(taken)))  # add_patches drops what it does not know without a word
    if refused:
        raise RuntimeError(
            f"ComfyUI took {len(taken)} of {len(changes)} patches; it refused {refused[0]} and {len(refused) - 1} "
            "more. Nothing was patched; please report this with the model's name"
        )
    return changed


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
        return write(
            weight, weight, Fused(factors or None, changes, shape or None), strength, match_comfyui=match_comfyui
        )


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
