"""The inputs that every node has which trains."""

from __future__ import annotations

from ...training.optimisers import OPTIMISERS
from ..host.shared.data_folders import EXAMPLES

FOLDER = (
    ["input", "output", EXAMPLES],
    {"tooltip": "ComfyUI's input or output folder, or the examples of this pack, which have 'striped things'."},
)
STEPS = ("INT", {"default": 500, "min": 1, "max": 1_000_000, "tooltip": "Steps of the optimiser."})
SEED = (
    "INT",
    {
        "default": 0,
        "min": 0,
        "max": 2**63 - 1,
        "control_after_generate": False,
        "tooltip": "The same seed, the same file.",
    },
)
RESUME = ("BOOLEAN", {"default": False, "tooltip": "Go on with a training of this name that was cancelled."})
ALPHA = (
    "FLOAT",
    {"default": 0.0, "min": 0.0, "max": 4096.0, "step": 1.0, "advanced": True, "tooltip": "0: the same as the rank."},
)
ACCUMULATE = ("INT", {"default": 1, "min": 1, "max": 256, "advanced": True, "tooltip": "Batches before a step."})
OPTIMISER = (list(OPTIMISERS), {"advanced": True, "tooltip": "What moves the weights. Usual: AdamW."})
