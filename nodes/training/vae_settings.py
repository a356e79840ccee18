"""The inputs of Train VAE: what everybody sets, and what is there for those who look for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...training.vae.losses import Weights
from ...training.vae.parts import PARTS
from ...training.vae.plan import PRECISIONS, VAEPlan
from ...training.vae.stored import DTYPES
from .inputs import ACCUMULATE, ALPHA, FOLDER, OPTIMISER, RESUME, SEED, STEPS

_AS_THEY_ARE = (
    "steps",
    "seed",
    "batch",
    "accumulate",
    "part",
    "rank",
    "alpha",
    "average",
    "shrink",
    "mirror",
    "sample",
    "hold",
    "encoder_rate",
    "held_out",
    "optimiser",
    "precision",
)
WEIGHTS = ("absolute", "squared", "scales", "edges", "spectrum", "perceptual")

REQUIRED = {
    "vae": ("VAE", {"tooltip": "What learns; it stays as it is, and a copy is trained."}),
    "folder": FOLDER,
    "subfolder": (
        "STRING",
        {"default": "", "tooltip": "The folder below it with your pictures; a folder called 10_cat counts ten times."},
    ),
    "steps": STEPS,
    "crop": (
        "INT",
        {
            "default": 256,
            "min": 16,
            "max": 2048,
            "step": 8,
            "tooltip": "The side in px of the parts of pictures that are seen. Smaller pictures are not used.",
        },
    ),
    "learning_rate": (
        "FLOAT",
        {
            "default": 1e-4,
            "min": 1e-7,
            "max": 1.0,
            "step": 1e-5,
            "round": False,
            "tooltip": "How big a step is. 0.00001 suits the weights of a large VAE, 0.0001 an adapter, 0.00003 the "
            "bundled VAE; 1 for Prodigy, which finds it itself.",
        },
    ),
    "seed": SEED,
    "filename_prefix": (
        "STRING",
        {"default": "vae/trained", "tooltip": "Folder and beginning of the name in the output folder."},
    ),
}


_WEIGHT = {"min": 0.0, "max": 100.0, "step": 0.05, "round": False, "advanced": True}


OPTIONAL = {
    "image": ("IMAGE", {"tooltip": "Pictures to learn from instead of the folder."}),
    "clip_model": ("CVL_CLIP_MODEL", {"tooltip": "A CLIP that looks at the pictures for the perceptual loss."}),
    "batch": ("INT", {"default": 4, "min": 1, "max": 256, "tooltip": "Parts of pictures seen together."}),
    "rank": (
        "INT",
        {
            "default": 0,
            "min": 0,
            "max": 1024,
            "tooltip": "0: all weights learn. More: a low-rank adapter beside every convolution, which is added to it.",
        },
    ),
    "resume": RESUME,
    "perceptual": (
        "FLOAT",
        {
            "default": 0.0,
            "min": 0.0,
            "max": 10.0,
            "step": 0.05,
            "tooltip": "How much the CLIP's eye counts beside all other losses, 0.5 is usual; 0: off.",
        },
    ),
    "held_out": (
        "FLOAT",
        {
            "default": 0.2,
            "min": 0.0,
            "max": 0.9,
            "step": 0.05,
            "tooltip": "Share of the pictures that only judge, whole; at least one of three, and none of fewer.",
        },
    ),
    "part": (
        list(PARTS),
        {
            "advanced": True,
            "tooltip": "What learns. With the encoder latents move: every model made for the old ones must be adapted.",
        },
    ),
    "alpha": ALPHA,
    "accumulate": ACCUMULATE,
    "average": (
        "FLOAT",
        {
            "default": 0.99,
            "min": 0.0,
            "max": 0.9999,
            "step": 0.001,
            "round": False,
            "advanced": True,
            "tooltip": "Decay of a running mean of the weights, which is then the result; 0: off.",
        },
    ),
    "absolute": ("FLOAT", {**_WEIGHT, "default": 1.0, "tooltip": "Weight of the mean absolute error."}),
    "squared": ("FLOAT", {**_WEIGHT, "default": 1.0, "tooltip": "Weight of the mean squared error."}),
    "scales": (
        "FLOAT",
        {
            **_WEIGHT,
            "default": 0.5,
            "tooltip": "Weight of the absolute error of pictures made 1, 2, 4 and 8 times smaller.",
        },
    ),
    "edges": (
        "FLOAT",
        {**_WEIGHT, "default": 0.5, "tooltip": "Weight of the error of differences between neighbours."},
    ),
    "spectrum": (
        "FLOAT",
        {
            **_WEIGHT,
            "default": 0.0,
            "tooltip": "Weight of the error of all frequencies' strengths: against blur, for a little more noise.",
        },
    ),
    "shrink": (
        "FLOAT",
        {
            "default": 1.0,
            "min": 1.0,
            "max": 16.0,
            "step": 0.5,
            "advanced": True,
            "tooltip": "Parts up to so many times as large are made smaller to the crop: large pictures from afar.",
        },
    ),
    "mirror": ("BOOLEAN", {"default": True, "advanced": True, "tooltip": "Half of the parts are mirrored."}),
    "sample": (
        "BOOLEAN",
        {
            "default": False,
            "advanced": True,
            "tooltip": "Latents are drawn from the encoder's distribution, not its mean.",
        },
    ),
    "hold": (
        "FLOAT",
        {
            "default": 1.0,
            "min": 0.0,
            "max": 10_000.0,
            "step": 0.1,
            "advanced": True,
            "tooltip": "How much an encoder that learns is held to its old latents.",
        },
    ),
    "encoder_rate": (
        "FLOAT",
        {
            "default": 0.1,
            "min": 0.0001,
            "max": 1.0,
            "step": 0.01,
            "round": False,
            "advanced": True,
            "tooltip": "An encoder that learns does so by so much of the learning rate.",
        },
    ),
    "optimiser": OPTIMISER,
    "precision": (
        list(PRECISIONS),
        {"advanced": True, "tooltip": "Of the convolutions while it learns. auto: bf16 on a card, else fp32."},
    ),
    "save_as": (
        list(DTYPES),
        {
            "advanced": True,
            "tooltip": "How the file holds the decoder. auto: as the VAE came. The encoder always keeps its numbers.",
        },
    ),
}


def plan_of(given: Mapping[str, Any]) -> VAEPlan:
    """Make the plan of the node's inputs, by name. Raises ValueError for numbers that cannot be followed."""
    return VAEPlan(
        crop_px=given["crop"],
        lr=given["learning_rate"],
        warm_up=min(50, given["steps"] // 4),
        weights=Weights(**{name: given[name] for name in WEIGHTS}),
        **{name: given[name] for name in _AS_THEY_ARE},
    )
