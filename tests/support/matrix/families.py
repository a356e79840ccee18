"""Families of models in sizes of a few kilobytes: what the host's class is given, and diffusers' twin where it has one.

The table is tests/data/lora_families.json: a family more is an entry more.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

TABLE = Path(__file__).resolve().parents[2] / "data" / "lora_families.json"


@dataclass(frozen=True)
class Family:
    """A class of `comfy.supported_models` and what its network is given; the same for diffusers' class."""

    name: str
    host: str
    sizes: dict
    diffusers: str = ""
    twin: dict = field(default_factory=dict)


FAMILIES = tuple(Family(**entry) for entry in json.loads(TABLE.read_text(encoding="utf-8")))
