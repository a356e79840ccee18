"""The host's text encoders at their published sizes on `meta`, and what files call their modules."""

import importlib
import inspect
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from . import models
from .dialects import Dialect

TABLE = Path(__file__).resolve().parents[2] / "data" / "lora_text_encoders.json"
_SHORT = (
    *(Dialect(f"lora_te{number}", f"lora_te{number}_", True, "down/up") for number in ("", 1, 2, 3)),
    *(Dialect(f"text_encoder{number}", f"text_encoder{number}.", False, "A/B") for number in ("", "_2")),
)
_FULL = (Dialect("text_encoders", "text_encoders.", False, "A/B"), Dialect("bare", "", False, "A/B"))


@dataclass(frozen=True)
class TextFamily:
    """A class of text encoders, or the function that makes it."""

    name: str
    host: str


TEXT_FAMILIES = tuple(TextFamily(**entry) for entry in json.loads(TABLE.read_text(encoding="utf-8")))


def clip(family: TextFamily):
    """A CLIP without a tokenizer around the encoders; None where the host has no such class."""
    import comfy.model_patcher
    import comfy.sd

    module, _, name = family.host.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError):
        return None
    kind = kind if inspect.isclass(kind) else kind()
    made = comfy.sd.CLIP(no_init=True)
    made.cond_stage_model = kind(device="meta", dtype=torch.float32)
    cpu = torch.device("cpu")
    made.patcher = comfy.model_patcher.ModelPatcher(made.cond_stage_model, cpu, cpu)
    made.tokenizer = made.layer_idx = made.apply_hooks_to_conds = None
    made.tokenizer_options, made.use_clip_schedule = {}, False
    return made


def files_of(made) -> list[tuple[str, Dialect, dict]]:
    """(part, dialect, modules) for each file: one part of the encoder in one dialect, its first layers."""
    found = models.first_layers(models.modules_of(models.shapes(made.patcher)))
    files = []
    for part in dict.fromkeys(name.split(".")[0] for name in found):
        own = {name: module for name, module in found.items() if name.startswith(f"{part}.transformer.")}
        behind = {name.removeprefix(f"{part}.transformer."): module for name, module in own.items()}
        short = {_short(name): module for name, module in behind.items()}
        files += [(part, dialect, short) for dialect in _SHORT]
        files += [(part, dialect, own) for dialect in _FULL]
        transformer = {f"transformer.{name}": module for name, module in behind.items()}
        files.append((part, Dialect("text_encoders.transformer", "text_encoders.", False, "A/B"), transformer))
    return [file for file in files if file[2]]


def _short(name: str) -> str:
    return name.removeprefix("model.").removeprefix("bert.")
