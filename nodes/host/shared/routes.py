"""What the canvas may ask of the pack, for the host to answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """A question of the canvas, JSON in and JSON out: `function` answers it, or raises ValueError with a sentence.

    what, done: what a question is about, and what is done with it, for sentences; example: one that is answered.
    """

    what: str
    done: str
    example: str
    function: Callable[[object], dict]


@dataclass(frozen=True)
class PictureRoute:
    """A small picture that the canvas shows by its address and `?name=...`: `function` gives a mark that changes with
    it and what makes the JPEG, or None where there is none; it raises ValueError with a sentence for another name.
    """

    function: Callable[[str], tuple[str, Callable[[], bytes]] | None]
