"""The ground under transparent pictures: the widget of every node that reads pictures with transparency."""

from __future__ import annotations

from ...files.decoding.ground import GROUNDS, WHITE

GROUND = (
    list(GROUNDS),
    {
        "default": WHITE,
        "advanced": True,
        "tooltip": "What transparent pictures are laid over before they are encoded: black line art on nothing shows "
        "on white only.",
    },
)
