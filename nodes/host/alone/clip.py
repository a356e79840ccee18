"""What travels along the wires as CLIP without ComfyUI: plain networks."""

from __future__ import annotations

from dataclasses import dataclass, field

from ....clip_core.config import CLIPConfig
from ....clip_core.networks.clip import CLIP
from ..shared.clip_vision import Marks
from ..shared.towers import PromptTokenizer, Towers


@dataclass(frozen=True)
class StandaloneClip:
    """A CLIP: networks and tokenizer. `identity` stands for the weights: another object for other weights."""

    towers: Towers
    tokenizer: PromptTokenizer
    identity: object = field(default_factory=object)


@dataclass(frozen=True)
class StandaloneClipModel:
    network: CLIP
    config: CLIPConfig
    identity: object = field(default_factory=object)  # as above
    unpatched: CLIP | None = None  # the network that LoRAs were put on, which shares its other weights; None: itself
    marks: Marks = field(default_factory=dict)
