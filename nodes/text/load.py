"""Text encoders: load one from a file."""

from __future__ import annotations

from .. import catalog, loading
from ..reports import as_json, shown

NONE = "none"
DTYPES = ["auto", "fp32", "fp16", "bf16"]
DTYPE_TOOLTIP = (
    "How the weights are kept. auto: what ComfyUI chooses (fp16), fp32 without ComfyUI; fp32 costs twice the memory. "
    "Activations are fp32 either way."
)


class LoadTextEncoder:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Loads the CLIP text encoder of SD1, SD2, SDXL or SD3 from a text encoder file or out of a whole checkpoint, "
        "reading only the tensors it needs, and says what it found. Stock nodes take its CLIP."
    )
    SEARCH_ALIASES = ["CLIPLoader", "load clip", "DualCLIPLoader", "text encoder"]
    RETURN_TYPES = ("CLIP", "STRING")
    RETURN_NAMES = ("clip", "report")
    OUTPUT_TOOLTIPS = (
        "The text encoder, for any node that takes a CLIP.",
        "What was read, as JSON: encoders, sizes, layouts, encoders not used.",
    )
    FUNCTION = "load"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls):
        files = catalog.choices("text_encoder")
        return {
            "required": {
                "file": (files, {"tooltip": "A file with a CLIP text encoder, or a checkpoint that contains one."}),
            },
            "optional": {
                "second_file": (
                    [NONE, *files],
                    {"tooltip": "The other encoder where a family has two in two files (SDXL, SD3: clip_l, clip_g)."},
                ),
                "family": (
                    ["auto", *loading.FAMILY_NAMES],
                    {
                        "tooltip": "Which model's way of reading the encoder to use (layer, norm, pooling, padding). "
                        "auto: told from what the files hold."
                    },
                ),
                "dtype": (DTYPES, {"tooltip": DTYPE_TOOLTIP}),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file, second_file=NONE, **_):
        return [catalog.fingerprint("text_encoder", name) for name in (file, second_file)]

    def load(self, file, second_file=NONE, family="auto", dtype="auto"):
        names = [file] if second_file == NONE else [file, second_file]
        clip, lines, data = loading.text_encoder([catalog.path("text_encoder", name) for name in names], family, dtype)
        return shown(lines, data, (clip, as_json(data)))


NODES = {"CVL_LoadTextEncoder": (LoadTextEncoder, "Load Text Encoder (CVL)")}
