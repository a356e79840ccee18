"""Pictures that a node shows one by one: their files, with what stands below each, for the gallery in the canvas."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

Card = dict[str, object]  # image: an entry of `ui.images`; name, score, key; kept: whether the node passes it on


def card(image: dict[str, str] | None, name: str, **more: object) -> list[Card]:
    """Make the card of a picture; none for one that the canvas cannot show, as it lies in no folder of the host."""
    return [] if image is None else [{"image": image, "name": name, **more}]


def with_gallery(answer: dict, groups: Sequence[tuple[str, Sequence[Card]]]) -> dict:
    """Add titled groups of cards to a node's answer: `ui.images` names their files, `ui.cvl_gallery` the cards."""
    shown = [{"title": title, "pictures": list(cards)} for title, cards in groups if cards]
    files = [one["image"] for group in shown for one in group["pictures"]]
    return {**answer, "ui": {**answer["ui"], "images": files, "cvl_gallery": shown}}


def read_picks(text: str) -> list[str]:
    """Read the picks of an input `picked`: a JSON list, or places with commas, or one name a line; empty: none."""
    text = text.strip()
    if not text:
        return []
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, list):
        return [str(one) for one in found]
    parts = re.split(r"[,;\s]+", text) if re.fullmatch(r"[\d,;\s]+", text) else text.splitlines()
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def picked_places(text: str, count: int) -> list[int]:
    """Read the places picked in a batch of `count` pictures.

    Raises:
        ValueError: one is no place in it.
    """
    picks = read_picks(text)
    places = [int(pick) for pick in picks if re.fullmatch(r"\d+", pick) and int(pick) < count]
    if len(places) != len(picks):
        raise ValueError(
            f"places from 0 to {count - 1} were expected in picked, but {text.strip()[:60]!r} came; click the pictures "
            "again, or empty picked to choose by score"
        )
    return list(dict.fromkeys(places))
