"""Which pictures of an index have which label: by the folder they lie in, and by what was picked by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...clip_core.few_labels.task import UNLABELLED
from ...clip_core.judging import zero_shot


@dataclass(frozen=True)
class Labelling:
    """The classes, the number of each picture's class (or UNLABELLED), and notes."""

    classes: tuple[zero_shot.Label, ...]
    labels: tuple[int, ...]
    notes: tuple[str, ...]


def label_pictures(
    paths: Sequence[str], names: Sequence[str], classes: str, below: str, picks: Mapping[str, str]
) -> Labelling:
    """Label pictures.

    Args:
        paths: of the pictures below the index's folder.
        names: of the same, as Load Image names them.
        classes: what the user wrote, as Zero-Shot Classify takes labels; empty: each folder with pictures is a class.
        below: the folder, below the index's, whose folders are the classes.
        picks: picture -> class, by path or name.

    Raises:
        ValueError: two labels contradict each other, a pick's class has no line in `classes`, or nothing is labelled.
    """
    folders = [_folder(path, below) for path in paths]
    known, notes = zero_shot.parse_labels(classes) if classes.strip() else ([], [])
    if not known:
        found = sorted({folder for folder in folders if folder} | set(picks.values()))
        known = [zero_shot.Label((name,)) for name in found]
    numbers = {label.name: number for number, label in enumerate(known)}
    if unlisted := [name for name in picks.values() if name not in numbers]:
        raise ValueError(
            f"the class {unlisted[0]!r} was picked for a picture, but has no line in classes, and so no text; write "
            "one, or empty classes to take the names of folders and picks"
        )
    labels = [numbers.get(folder, UNLABELLED) for folder in folders]
    places = {name: place for place, name in enumerate(names)} | {path: place for place, path in enumerate(paths)}
    lost = [pick for pick in picks if pick not in places]
    for pick in (pick for pick in picks if pick in places):
        place, number = places[pick], numbers[picks[pick]]
        if labels[place] not in (UNLABELLED, number):
            raise ValueError(
                f"the labels contradict each other: {names[place]} lies in the folder of {known[labels[place]].name} "
                f"and was picked as {picks[pick]}; take one of them away"
            )
        labels[place] = number
    if set(labels) <= {UNLABELLED}:
        raise ValueError(
            f"no picture of the index has a label: folders named as the classes were expected {_where(below)}, or "
            "picks; put a few pictures of each class into a folder of its name, and index that again"
        )
    return Labelling(tuple(known), tuple(labels), (*notes, *_lost(lost)))


def parse_picks(text: str) -> dict[str, str]:
    """The class of each picture that was picked by hand: lines `picture = class`, or a JSON object, such as the one
    that Learn Labels writes.

    Raises:
        ValueError: a line says nothing, or two of them contradict each other.
    """
    text = text.strip()
    pairs = _json_pairs(text) if text.startswith("{") else [_pair(line) for line in text.splitlines() if line.strip()]
    picks: dict[str, str] = {}
    for picture, label in pairs:
        if picks.setdefault(picture, label) != label:
            raise ValueError(
                f"the labels contradict each other: {picture} was picked as {picks[picture]} and as {label}; take one "
                "of them away"
            )
    return picks


def _pair(line: str) -> tuple[str, str]:
    picture, sign, label = line.rpartition("=")
    if not sign or not picture.strip() or not label.strip():
        raise ValueError(f"in picks a line 'picture = class' was expected, but {line.strip()[:60]!r} came; mend it")
    return picture.strip(), label.strip()


def _json_pairs(text: str) -> list[tuple[str, str]]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"picks begin as JSON and are none ({error}); mend them, or write lines") from error
    found = found.get("labels", found)
    if not isinstance(found, dict):
        raise ValueError("in picks a JSON object with a class for each picture was expected; mend them, or write lines")
    return [(picture, label if isinstance(label, str) else "") for picture, label in found.items() if label]


def _folder(path: str, below: str) -> str:
    """The folder that a picture lies in, the first one below `below`; "" for none."""
    start = f"{below.strip().strip('/')}/" if below.strip().strip("/") else ""
    rest = path[len(start) :] if path.startswith(start) else ""
    return rest.partition("/")[0] if "/" in rest else ""


def _where(below: str) -> str:
    return f"in {below.strip()!r}" if below.strip() else "in its folder"


def _lost(lost: Sequence[str]) -> list[str]:
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    return [f"picked, but not in the index: {', '.join(lost[:3])}{more}"] if lost else []
