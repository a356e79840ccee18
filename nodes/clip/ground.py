"""The ground under transparent pictures: the widget of every node that reads pictures with transparency."""

from __future__ import annotations

from dataclasses import dataclass

from ...clip_core.features.preprocess import laid_over
from ...files.decoding.ground import GROUNDS, WHITE
from ..checks import check_image
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


@dataclass(frozen=True)
class Laid:
    """Pictures without transparency [B, H, W, 3], the ground below them, and how many had some."""

    image: Image
    ground: str
    transparent: int

    @property
    def notes(self) -> list[str]:
        """A note on the pictures that were transparent in part; none where none was."""
        said = (
            f"{self.transparent} of {len(self.image)} pictures are transparent in part, and were laid over "
            f"{self.ground}"
        )
        return [said] if self.transparent else []

    @property
    def data(self) -> dict:
        """The ground and the number of transparent pictures, for a report."""
        return {"ground": self.ground, "transparent": self.transparent}


def level(ground: str) -> float:
    """The grey level of a ground, 0..1."""
    return GROUNDS[ground][0] / 255


def on_ground(image: Image, ground: str = WHITE) -> Laid:
    """Lay an IMAGE with transparency over a ground of `GROUNDS`.

    Raises:
        ValueError: it is no batch of pictures.
    """
    check_image(image)
    whole, transparent = laid_over(image, level(ground))
    return Laid(whole, ground, transparent)
