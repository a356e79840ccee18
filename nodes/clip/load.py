"""The whole CLIP, both encoders: load it."""

from __future__ import annotations

from .. import catalog, loading
from ..host import host
from ..reports import as_json, shown
from ..text.load import DTYPES


class LoadCLIPModel:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Loads a whole CLIP, text and image encoder, for zero-shot classification and similarity: vision transformers "
        "and ResNets, in the layouts of OpenAI (its .pt archives, too), open_clip and Hugging Face. For prompts alone "
        "use Load Text Encoder."
    )
    SEARCH_ALIASES = ["CLIP model", "ViT", "ResNet", "RN50", "open_clip", "OpenAI", "MetaCLIP", "load clip vision"]
    RETURN_TYPES = ("CVL_CLIP_MODEL", "STRING", "CLIP_VISION")
    RETURN_NAMES = ("clip_model", "report", "clip_vision")
    OUTPUT_TOOLTIPS = (
        "Both encoders, for the CVL nodes that compare pictures with words.",
        "What was read, as JSON: sizes, layout, activation, tensors left unread.",
        "Its image encoder, for stock nodes that take a CLIP_VISION.",
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
                        "tooltip": "Most CLIP files do not name theirs. auto: the header or the config files beside it "
                        "if they say, else its published name, else the rule for its size (OpenAI's sizes quick_gelu; "
                        "H, g and bigG gelu)."
                    },
                ),
                "dtype": (
                    DTYPES,
                    {"tooltip": "How the weights are kept. auto: fp32. Activations are fp32 either way."},
                ),
                "heads": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 1024,
                        "tooltip": "Attention heads of the image encoder, which files do not name either. 0: what the "
                        "config beside it says, else the rule for its width.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file, **_):
        return catalog.fingerprint("clip_model", file)

    def load(self, file, activation="auto", dtype="auto", heads=0):
        model, lines, data = loading.clip_model(catalog.path("clip_model", file), activation, dtype, heads)
        return shown(lines, data, (model, as_json(data), host.clip_vision(model)))


NODES = {"CVL_LoadCLIPModel": (LoadCLIPModel, "Load CLIP Model (CVL)")}
