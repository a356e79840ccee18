"""The inputs of Train LoRA: what everybody sets, and what is there for those who look for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...training.lora.data.captions import CaptionPlan
from ...training.lora.levels import WAYS
from ...training.lora.objective import Weighting
from ...training.lora.plan import LoRAPlan
from ...training.lora.targets import KINDS, TARGETS
from ...training.memory.recomputing import WAYS as WAYS_TO_RECOMPUTE
from ..lora.convert import DIALECTS
from .inputs import ACCUMULATE, ALPHA, FOLDER, OPTIMISER, RESUME, SEED, STEPS

_AS_THEY_ARE = (
    "seed",
    "batch",
    "accumulate",
    "average",
    "dropout",
    "targets",
    "blocks",
    "levels",
    "held_out",
    "kind",
    "optimiser",
    "text_encoder_rate",
)

LISTS = ("latent", "positive")  # inputs that take a list; of the others there is one value

REQUIRED = {
    "model": ("MODEL", {"tooltip": "What learns. LoRAs on it count as part of it."}),
    "clip": ("CLIP", {"tooltip": "Encodes the captions."}),
    "vae": ("VAE", {"tooltip": "Encodes the pictures."}),
    "folder": FOLDER,
    "subfolder": (
        "STRING",
        {
            "default": "",
            "tooltip": "The folder below it with your pictures. cat.txt or cat.caption beside cat.png is "
            "its caption; a folder called 10_cat counts ten times.",
        },
    ),
    "steps": STEPS,
    "rank": (
        "INT",
        {"default": 16, "min": 1, "max": 1024, "tooltip": "How much it can hold, and its size."},
    ),
    "learning_rate": (
        "FLOAT",
        {
            "default": 2e-4,
            "min": 1e-7,
            "max": 1.0,
            "step": 1e-5,
            "round": False,
            "tooltip": "How big a step is; 1 for Prodigy, which finds it itself.",
        },
    ),
    "resolution": (
        "INT",
        {
            "default": 512,
            "min": 64,
            "max": 4096,
            "step": 8,
            "tooltip": "Pictures get about this area, in their own shape. 512 for SD 1, 1024 for SDXL.",
        },
    ),
    "trigger": (
        "STRING",
        {"default": "", "tooltip": "A word that calls it; put in front of the captions."},
    ),
    "seed": SEED,
    "filename_prefix": (
        "STRING",
        {"default": "loras/trained", "tooltip": "Folder and beginning of the name in the output folder."},
    ),
}

OPTIONAL = {
    "batch": ("INT", {"default": 1, "min": 1, "max": 256, "tooltip": "Pictures seen together."}),
    "resume": RESUME,
    "alpha": ALPHA,
    "accumulate": ACCUMULATE,
    "targets": (list(TARGETS), {"advanced": True, "tooltip": "Which layers of the model's blocks learn."}),
    "blocks": (
        "STRING",
        {"default": "", "advanced": True, "tooltip": "As in LoRA Stack; blocks at 0 do not learn."},
    ),
    "min_snr": (
        "FLOAT",
        {
            "default": 0.0,
            "min": 0.0,
            "max": 100.0,
            "step": 0.5,
            "advanced": True,
            "tooltip": "Gamma of min-SNR, 5 is usual; 0: off. Not for flow models.",
        },
    ),
    "levels": (
        list(WAYS),
        {"advanced": True, "tooltip": "Which noise levels are practised. auto: as the model was trained."},
    ),
    "shuffle_tags": ("BOOLEAN", {"default": False, "advanced": True, "tooltip": "Tags change places."}),
    "keep_tags": (
        "INT",
        {"default": 0, "min": 0, "max": 100, "advanced": True, "tooltip": "Tags in front that stay."},
    ),
    "drop_caption": (
        "FLOAT",
        {
            "default": 0.05,
            "min": 0.0,
            "max": 1.0,
            "step": 0.01,
            "advanced": True,
            "tooltip": "How often a caption is left out.",
        },
    ),
    "keep_base": (
        "FLOAT",
        {
            "default": 0.0,
            "min": 0.0,
            "max": 10.0,
            "step": 0.1,
            "advanced": True,
            "tooltip": "How much the model's own answers are held where the class word stands in the trigger's "
            "place; 1 is usual, 0: off.",
        },
    ),
    "class_word": (
        "STRING",
        {"default": "", "advanced": True, "tooltip": "What the trigger is one of: dog, woman, painting."},
    ),
    "dropout": (
        "FLOAT",
        {"default": 0.0, "min": 0.0, "max": 0.9, "step": 0.05, "advanced": True, "tooltip": "Of the LoRA."},
    ),
    "average": (
        "FLOAT",
        {
            "default": 0.0,
            "min": 0.0,
            "max": 0.9999,
            "step": 0.001,
            "round": False,
            "advanced": True,
            "tooltip": "Decay of a running mean, which is then the result; 0.99 is usual, 0: off.",
        },
    ),
    "held_out": (
        "FLOAT",
        {
            "default": 0.1,
            "min": 0.0,
            "max": 0.9,
            "step": 0.05,
            "advanced": True,
            "tooltip": "Share of the pictures that only judge; with fewer than five, none.",
        },
    ),
    "dialect": (DIALECTS, {"advanced": True, "tooltip": "How the file names its parts."}),
    "sample_prompt": (
        "STRING",
        {
            "default": "",
            "tooltip": "A prompt that is drawn ten times on the way, always from the same noise; empty: none.",
        },
    ),
    "sample_cfg": (
        "FLOAT",
        {"default": 4.0, "min": 1.0, "max": 30.0, "step": 0.5, "advanced": True, "tooltip": "Of those samples."},
    ),
    "kind": (
        list(KINDS),
        {
            "advanced": True,
            "tooltip": "LoCon: convolutions, too. DoRA: lengths learn apart; more memory. LoKr: small files.",
        },
    ),
    "optimiser": OPTIMISER,
    "checkpointing": (
        list(WAYS_TO_RECOMPUTE),
        {
            "advanced": True,
            "tooltip": "Blocks are computed twice instead of kept: less memory, slower. auto: when memory runs out.",
        },
    ),
    "latent": ("LATENT", {"tooltip": "Latents to learn from instead of the folder; also a list of them."}),
    "positive": ("CONDITIONING", {"tooltip": "Their prompts: a list with one for each, or one for all."}),
    "text_encoder_rate": (
        "FLOAT",
        {
            "default": 0.0,
            "min": 0.0,
            "max": 10.0,
            "step": 0.05,
            "round": False,
            "advanced": True,
            "tooltip": "How fast CLIP learns with the model, times the learning rate; 0.5 is usual, 0: not at all.",
        },
    ),
}


def plan_of(given: Mapping[str, Any]) -> LoRAPlan:
    """Make the plan of the node's inputs, by name. Raises ValueError for numbers that cannot be followed."""
    steps, rank = given["steps"], given["rank"]
    captions = CaptionPlan(
        given["trigger"].strip(), given["shuffle_tags"], drop_whole=given["drop_caption"], keep=given["keep_tags"]
    )
    return LoRAPlan(
        steps=steps,
        rank=rank,
        lr=given["learning_rate"],
        alpha=given["alpha"] or float(rank),
        warm_up=min(20, steps // 10),
        weighting=Weighting(min_snr=given["min_snr"]),
        captions=captions,
        keep=given["keep_base"],
        class_word=given["class_word"].strip(),
        recompute=given["checkpointing"],
        **{name: given[name] for name in _AS_THEY_ARE},
    )
