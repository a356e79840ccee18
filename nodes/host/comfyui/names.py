"""Names of modules as ComfyUI's own LoRA loader knows them (comfy/lora.py)."""

from __future__ import annotations

import comfy.lora
import comfy.sd
import comfy.utils
from comfy.model_patcher import ModelPatcher

from ....lora.models.places import Slice, Target


def module_names(target) -> dict[str, Target]:
    """What it does to the values is known by its function: only the exchange of the halves of a norm is taken."""
    if isinstance(target, ModelPatcher):
        known = comfy.lora.model_lora_keys_unet(target.model, {}) if hasattr(target.model, "model_config") else {}
    elif isinstance(target, comfy.sd.CLIP):
        known = comfy.lora.model_lora_keys_clip(target.cond_stage_model, {})
    else:
        known = {}
    return {name: found for name, place in known.items() if (found := _target(place))}


def _target(place: str | tuple) -> Target | None:
    """A place of the host: the key, or (key, rows or None), or (key, rows or None, what is done to the change)."""
    if isinstance(place, str):
        return Target(place)
    key, rows, change = (*place, None)[:3]
    if change not in (None, comfy.utils.swap_scale_shift):
        return None
    return Target(Slice(key, tuple(rows)) if rows else key, swapped=change is not None)
