"""The ground under transparent pictures: the widget of every node that reads pictures with transparency."""

from __future__ import annotations

from ...clip_core.features.preprocess import laid_over
from ...files.decoding.ground import GROUNDS, WHITE
from ..host.interface import Image

GROUND = (
    list(GROUNDS),
    {
        "default": WHITE,
        "advanced": True,
        "tooltip": "What transparent pictures are laid over before they are encoded: black line art on nothing shows "
        "on white only.",
    },
)


def level(ground: str) -> float:
    """The grey level of a ground, 0..1."""
    return GROUNDS[ground][0] / 255


def on_ground(image: Image, ground: str = WHITE) -> tuple[Image, int, list[str]]:
    """Lay an IMAGE with transparency over a ground; the IMAGE without, how many are transparent, and a note on them."""
    whole, clear = laid_over(image, level(ground))
    said = f"{clear} of {len(image)} pictures are transparent in part, and were laid over {ground}"
    return whole, clear, [said] if clear else []
