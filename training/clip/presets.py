"""Recipes by name, with the numbers their authors published, and sizes for a CLIP from scratch.

FLYP: Goyal et al., arXiv 2212.00638 (ImageNet: 1e-5, weight decay 0.1, batch 512, 10 epochs, 500 steps of warm-up;
small sets: batch 256). CLIP-LoRA: Zanella and Ben Ayed, arXiv 2405.18541 (rank 2, alpha 1 on q, k, v of both encoders,
dropout 0.25, 2e-4 falling to 1e-6, weight decay 0.01, 500 steps for each shot, batch 32, cross-entropy among the texts
of the classes). LiT: Zhai et al., arXiv 2111.07991 (the image encoder locked), with the numbers of open_clip's training
(5e-4, weight decay 0.2, betas 0.9 and 0.98, epsilon 1e-6, cosine to 0, 32 epochs). From scratch: the same, but for a
learning rate, a warm-up and a batch that suit a small model and hundreds of pictures rather than millions, more epochs,
and a running mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ...clip_core.config import PUBLISHED, CLIPConfig, TextConfig, VisionConfig
from ..recipes.clip import CONFIG
from .augment import Augmentation
from .objective import CLASSES, CONTRASTIVE
from .plan import TEXT, ClipPlan

FLYP, CLIP_LORA, LIT, FROM_SCRATCH, OWN = "FLYP", "CLIP-LoRA", "LiT", "from-scratch-small", "none"
PRESETS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        FLYP: {
            "epochs": 10.0,
            "lr": 1e-5,
            "batch": 256,
            "warm_up": 500,
            "weight_decay": 0.1,
            "beta2": 0.999,
            "eps": 1e-8,
            "loss": CONTRASTIVE,
        },
        CLIP_LORA: {
            "shots_steps": 500,
            "lr": 2e-4,
            "floor": 0.005,
            "batch": 32,
            "warm_up": 0,
            "weight_decay": 0.01,
            "beta2": 0.999,
            "eps": 1e-8,
            "rank": 2,
            "alpha": 1.0,
            "dropout": 0.25,
            "layers": "q, k, v",
            "loss": CLASSES,
            "train_scale": False,
            "augmentation": Augmentation(crop=0.08, flip=True),
        },
        LIT: {"towers": TEXT, "epochs": 32.0, "lr": 5e-4, "batch": 256, "warm_up": 100, "weight_decay": 0.2},
        FROM_SCRATCH: {
            "epochs": 100.0,
            "lr": 1e-3,
            "batch": 64,
            "warm_up": 100,
            "weight_decay": 0.2,
            "average": 0.995,
            "augmentation": Augmentation(crop=0.6),
        },
        OWN: {},
    }
)
AUTO = "auto"  # in the place of a size: what suits the pictures
SIZES: Mapping[str, CLIPConfig] = MappingProxyType(
    {
        "tiny-16": CLIPConfig(CONFIG.text, VisionConfig(64, 4, 1, 256, 4, 16, 64)),
        "tiny-32": CLIPConfig(CONFIG.text, VisionConfig(128, 4, 2, 512, 4, 32, 64)),
        "tiny": CONFIG,
        "small": CLIPConfig(TextConfig(256, 6, 4, 1024, 256), VisionConfig(256, 6, 4, 1024, 16, 128, 256)),
        **{name: config for name, config in PUBLISHED.items() if isinstance(config.vision, VisionConfig)},
    }
)


def fitting_size(side_px: int) -> str:
    """The name of the size from scratch for pictures whose shorter side is usually so long: small ones would only be
    blown up for a larger model.
    """
    return "tiny-16" if side_px <= 24 else "tiny-32" if side_px <= 40 else "tiny"


def plan_of(preset: str, changes: Mapping[str, object], pictures: int | None = None) -> ClipPlan:
    """The plan of a recipe with other numbers in place of some of its own; of a batch that the recipe names, no more
    than there are `pictures`, and of its warm-up no more than a tenth of the steps.

    Raises:
        ValueError: no such recipe, or numbers that cannot be followed.
    """
    if preset not in PRESETS:
        raise ValueError(f"the preset is {preset!r}: expected one of {', '.join(PRESETS)}")
    numbers = {**PRESETS[preset], **changes}
    if pictures is not None and "batch" not in changes:
        batch = numbers.get("batch", ClipPlan.batch)
        numbers["batch"] = max(2, min(int(str(batch)), pictures))
    plan = ClipPlan(**numbers)  # type: ignore[arg-type]
    if pictures is not None and "warm_up" not in changes:
        plan = replace(plan, warm_up=min(plan.warm_up, plan.steps_for(pictures, 1) // 10))
    return plan
