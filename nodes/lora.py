"""LoRA files onto models."""

from __future__ import annotations

from . import catalog, loading
from .host import host
from .reports import as_json, shown


class LoadLoRA:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Applies a LoRA to a MODEL, a CLIP, or a whole CLIP model, whichever are connected, and reports how much of "
        "the file was used. A file that fits nothing is an error, never a picture that silently did not change."
    )
    SEARCH_ALIASES = ["LoraLoader", "load lora", "LoCon"]
    RETURN_TYPES = ("MODEL", "CLIP", "STRING", "CVL_CLIP_MODEL")
    RETURN_NAMES = ("model", "clip", "report", "clip_model")
    OUTPUT_TOOLTIPS = (
        "The MODEL with the LoRA, if one was connected.",
        "The CLIP with the LoRA, if one was connected.",
        "What the file holds, what was applied where, and what was not, as JSON.",
        "The whole CLIP model with the LoRA, if one was connected.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        strength = {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}
        return {
            "required": {
                "file": (
                    catalog.choices("lora"),
                    {"tooltip": "A LoRA or LoCon file: kohya, diffusers, PEFT or cloneofsimo."},
                ),
                "strength_model": (
                    "FLOAT",
                    {
                        **strength,
                        "tooltip": "How much of it the MODEL gets; 0 leaves it alone, less than 0 turns it round.",
                    },
                ),
                "strength_clip": (
                    "FLOAT",
                    {**strength, "tooltip": "How much of it the CLIP and the CLIP model get; 0 leaves them alone."},
                ),
            },
            "optional": {
                "model": ("MODEL", {"tooltip": "The diffusion model to change, if any."}),
                "clip": ("CLIP", {"tooltip": "The text encoder to change, if any."}),
                "clip_model": ("CVL_CLIP_MODEL", {"tooltip": "The whole CLIP to change, if any."}),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file, **_):
        return catalog.fingerprint("lora", file)

    def load(self, file, strength_model, strength_clip, model=None, clip=None, clip_model=None):
        targets = {
            "model": (model, strength_model),
            "clip": (clip, strength_clip),
            "clip_model": (clip_model, strength_clip),
        }
        connected = {name: pair for name, pair in targets.items() if pair[0] is not None}
        if not connected:
            raise ValueError("nothing is connected to put the LoRA on; connect a MODEL, a CLIP or a CLIP model")
        changed, lines, data = loading.lora(catalog.path("lora", file), connected)
        model, clip, clip_model = (
            changed.get(name, host.absent(f"Load LoRA (CVL) has no {name} to pass on: none is connected to it"))
            for name in targets
        )
        return shown(lines, data, (model, clip, as_json(data), clip_model))
