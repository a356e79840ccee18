"""LoRA adapters as patches on ComfyUI's MODEL, CLIP and our ClipModel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import comfy.sd
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoRAAdapter

from ...lora.adapters import LoRA
from .comfyui_clip import ComfyClipModel


def weights(target: ModelPatcher | comfy.sd.CLIP | ComfyClipModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in _patcher(target).model_state_dict().items()}


def patched(target, found: Mapping[str, LoRA], strength: float):
    if isinstance(target, comfy.sd.CLIP | ModelPatcher):
        changed = target.clone()
    else:
        changed = dataclasses.replace(target, patcher=target.patcher.clone())
    patches = {key: _adapter(lora) for key, lora in found.items()}
    taken = _patcher(changed).add_patches(patches, strength)
    refused = sorted(set(patches) - set(taken))  # add_patches drops what it does not know without a word
    if refused:
        raise RuntimeError(
            f"ComfyUI took {len(taken)} of {len(patches)} patches; it refused {refused[0]} and {len(refused) - 1} "
            "more. Nothing was patched; please report this with the model's name"
        )
    return changed


def _patcher(target) -> ModelPatcher:
    return target if isinstance(target, ModelPatcher) else target.patcher


def _adapter(lora: LoRA) -> LoRAAdapter:
    """ComfyUI's own low-rank patch: the product is made when the weight is patched, in float32."""
    return LoRAAdapter(set(), (lora.up, lora.down, lora.alpha, lora.mid, None, None))
