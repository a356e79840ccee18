"""LoRA adapters as patches on ComfyUI's MODEL, CLIP and our ClipModel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import comfy.sd
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoRAAdapter
from comfy.weight_adapter.base import WeightAdapterBase
from torch import Tensor

from ...lora.adapters import LoRA
from ...lora.fusing import Change, apply_
from ...lora.mmdit import Place
from .comfyui_clip import ComfyClipModel
from .image_encoding import marked
from .patching import part_norms


def weights(target: ModelPatcher | comfy.sd.CLIP | ComfyClipModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in _patcher(target).model_state_dict().items()}


def norms(target, places: Sequence[Place]) -> dict[Place, float]:
    patcher = _patcher(target)
    originals = {key: kept.weight for key, kept in patcher.backup.items()}  # of weights that are patched at this moment
    return part_norms(patcher.model, {**patcher.model_state_dict(), **originals}, places)


def patched(target, changes: Mapping[Place, Sequence[Change]], *, match_comfyui: bool = False):
    if isinstance(target, comfy.sd.CLIP | ModelPatcher):
        changed = target.clone()
    else:
        changed = dataclasses.replace(target, patcher=target.patcher.clone(), marks=marked(target.marks, changes))
    by_strength: dict[float, dict[Place, WeightAdapterBase]] = {}
    for place, several in changes.items():
        strength, adapter = _adapter(several, match_comfyui)
        by_strength.setdefault(strength, {})[place] = adapter
    taken = [
        place
        for strength, patches in by_strength.items()
        for place in _patcher(changed).add_patches(patches, strength)
    ]
    refused = sorted(map(str, set(changes) - set(taken)))  # add_patches drops what it does not know without a word
    if refused:
        raise RuntimeError(
            f"ComfyUI took {len(taken)} of {len(changes)} patches; it refused {refused[0]} and {len(refused) - 1} "
            "more. Nothing was patched; please report this with the model's name"
        )
    return changed


class Changes(WeightAdapterBase):
    """All changes of one weight as one patch: ComfyUI hands in its own fp32 copy, which is changed in place.

    `weights` is (changes, match_comfyui): the newer host copies a patch by `type(patch)(loaded_keys, weights)` when it
    streams weights (comfy/lora.py `prefetch_prepared_value`, 0.33.0), and named tuples become plain ones on the way.
    """

    name = "clip_vae_lora"

    def __init__(self, loaded_keys: set[str], weights: tuple[Sequence[tuple], bool]):
        self.loaded_keys, self.weights = loaded_keys, weights

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
        changes, match_comfyui = self.weights
        return apply_(weight, [Change(*change) for change in changes], strength, match_comfyui=match_comfyui)


def _patcher(target) -> ModelPatcher:
    return target if isinstance(target, ModelPatcher) else target.patcher


def _adapter(changes: Sequence[Change], match_comfyui: bool) -> tuple[float, WeightAdapterBase]:
    """A strength and a patch: ComfyUI's own low-rank patch for one plain LoRA, ours for everything else."""
    lora, strength = changes[0]
    if len(changes) == 1 and isinstance(lora, LoRA):
        return strength, LoRAAdapter(set(), (lora.up, lora.down, lora.alpha, lora.mid, None, None))
    return 1.0, Changes(set(), (tuple(changes), match_comfyui))
