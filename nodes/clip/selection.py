"""The chosen pictures of a batch, which Rank Images and Image Gate give to Select Latents; and scores as lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PROMPT = {"multiline": True, "default": "a photo of a red circle"}


@dataclass(frozen=True)
class PictureSelection:
    """The value of a CVL_SELECTION wire: the numbers of the chosen pictures in a batch of `count`."""

    places: tuple[int, ...]
    count: int


def sound(values: list[float]) -> list[float]:
    """The scores that are not NaN."""
    return [value for value in values if value == value]


def ranks(order: Iterable[int], values: list[float], most: int = 16) -> list[str]:
    """A line with the score of each picture in this order, at most `most`."""
    lines = [f"#{place}: {'no score' if values[place] != values[place] else f'{values[place]:.4f}'}" for place in order]
    return lines[:most] + ([f"and {len(lines) - most} more"] if len(lines) > most else [])
