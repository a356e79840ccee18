"""What Rank Images and Image Gate hand on: which pictures of a batch, and their scores in words."""

from __future__ import annotations

from typing import NamedTuple

PROMPT = {"multiline": True, "default": "a photo of a red circle"}


class Selection(NamedTuple):
    """Places of pictures in a batch of `count`: what travels on a CVL_SELECTION wire."""

    places: tuple[int, ...]
    count: int


def sound(values: list[float]) -> list[float]:
    return [value for value in values if value == value]


def ranks(order, values: list[float], most: int = 16) -> list[str]:
    lines = [f"#{place}: {'no score' if values[place] != values[place] else f'{values[place]:.4f}'}" for place in order]
    return lines[:most] + ([f"and {len(lines) - most} more"] if len(lines) > most else [])
