"""The node that applies one LoRA file."""

from __future__ import annotations

from .. import catalog
from ..host import host
from ..reports import as_json, shown
from .application import LoRARequest, files_of, put_on
from .report import chart, report_of

OPTIONS = {
    "match_comfyui": (
        "BOOLEAN",
        {
            "default": False,
            "tooltip": "Off: the change that was trained. On: what ComfyUI's own loader makes of the file, where that "
            "differs (DoRA, OFT).",
        },
    ),
    "strict": (
        "BOOLEAN",
        {"default": False, "tooltip": "On: an error if any part of the file cannot be applied to what is connected."},
    ),
}


class LoadLoRA:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Applies a LoRA to a MODEL, a CLIP, or a whole CLIP model, whichever are connected, and reports how much of "
        "the file was used. A file that fits nothing is an error, never a picture that silently did not change."
    )
    SEARCH_ALIASES = ["LoraLoader", "load lora", "LoCon", "LoHa", "LoKr", "DoRA", "block weight"]
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
    def INPUT_TYPES(cls) -> dict:
        strength = {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}
        return {
            "required": {
                "file": (
                    catalog.choices("lora"),
                    {"tooltip": "LoRA of any kind (LoCon, LoHa, LoKr, DoRA, OFT, ...), whatever tool wrote it."},
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
                "blocks": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Strengths by block, times the others: attn2: 0.5, IN07-IN08: 0, double.0-7: 0.3, "
                        "text: 0. Or a preset of 12, 17, 20 or 26 numbers. Empty: 1 everywhere.",
                    },
                ),
                **OPTIONS,
            },
        }

    @classmethod
    def IS_CHANGED(cls, file: str, **_: object) -> str:
        return catalog.fingerprint("lora", file)

    def load(
        self,
        file: str,
        strength_model: float,
        strength_clip: float,
        model: object | None = None,
        clip: object | None = None,
        clip_model: object | None = None,
        blocks: str = "",
        match_comfyui: bool = False,
        strict: bool = False,
    ) -> dict:
        targets = {"model": model, "clip": clip, "clip_model": clip_model}
        connected = {name: target for name, target in targets.items() if target is not None}
        if not connected:
            raise ValueError("nothing is connected to put the LoRA on; connect a MODEL, a CLIP or a CLIP model")
        strengths = {"model": strength_model, "clip": strength_clip, "clip_model": strength_clip}
        entry = LoRARequest(catalog.path("lora", file), strengths, blocks)
        changed, uses = put_on([entry], connected, match_comfyui=match_comfyui, strict=strict)
        self.files = files_of(uses)
        lines, data = report_of(uses[0], connected)
        model, clip, clip_model = (
            changed.get(name, host.absent(f"Load LoRA (CVL) has no {name} to pass on: none is connected to it"))
            for name in targets
        )
        images = host.save_preview(chart([data]), "cvl_lora")
        return shown(lines, data, (model, clip, as_json(data), clip_model), images)


NODES = {"CVL_LoadLoRA": (LoadLoRA, "Load LoRA (CVL)")}
