"""The whole CLIP, both encoders: load it."""

from __future__ import annotations

from . import catalog, loading
from .reports import as_json, shown
from .text import DTYPES


class LoadCLIPModel:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Loads a whole CLIP, text and image encoder (OpenAI, open_clip or Hugging Face layout), for zero-shot "
        "classification and similarity. For prompts alone use Load Text Encoder."
    )
    SEARCH_ALIASES = ["CLIP model", "ViT", "open_clip", "load clip vision"]
    RETURN_TYPES = ("CVL_CLIP_MODEL", "STRING")
    RETURN_NAMES = ("clip_model", "report")
    OUTPUT_TOOLTIPS = (
        "Both encoders, for the CVL nodes that compare pictures with words.",
        "What was read, as JSON: sizes, layout, activation, tensors left unread.",
    )
    FUNCTION = "load"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "file": (catalog.choices("clip_model"), {"tooltip": "A file with both halves of a CLIP."}),
            },
            "optional": {
                "activation": (
                    ["auto", "quick_gelu", "gelu"],
                    {
                        "tooltip": "Most CLIP files do not name theirs. auto: the header if it says, else the rule for "
                        "its size (OpenAI's sizes quick_gelu; H, g and bigG gelu)."
                    },
                ),
                "dtype": (
                    DTYPES,
                    {"tooltip": "How the weights are kept. auto: fp32. Activations are fp32 either way."},
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file, **_):
        return catalog.fingerprint("clip_model", file)

    def load(self, file, activation="auto", dtype="auto"):
        model, lines, data = loading.clip_model(catalog.path("clip_model", file), activation, dtype)
        return shown(lines, data, (model, as_json(data)))
