"""A list of LoRAs as text: one a line, `name : strength_model : strength_clip : blocks`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath

MOST_LINES, _LONGEST_LINE = 1000, 2000
_OFF = re.compile(r"(?:off|-)\s+", re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_LIMIT = 100.0


class ListError(ValueError):
    """A line that cannot be followed: one sentence with its number."""

    def __init__(self, number: int, sentence: str):
        super().__init__(f"line {number} of the LoRAs: {sentence}")


@dataclass(frozen=True)
class Line:
    """A LoRA that is on, or off; `number` counts the text's lines from 1."""

    number: int
    name: str
    strength_model: float = 1.0
    strength_clip: float = 1.0
    blocks: str = ""
    on: bool = True


def parse(text: str) -> list[Line]:
    """The lines of a list, those that are off included; empty ones and comments (from # on) are no lines.

    A line is off where it begins with the word `off` or with `-`, and a space behind it. Strengths that are left out
    are 1, and the CLIP's is the MODEL's; blocks may have colons of their own.

    Raises:
        ListError: no name, a strength that is not a number or beyond 100, or too many or too long lines.
    """
    lines = []
    for number, written in enumerate(text.splitlines(), 1):
        line = _COMMENT.sub("", written[: _LONGEST_LINE + 1]).strip()
        if not line:
            continue
        if len(written) > _LONGEST_LINE:
            raise ListError(number, f"it has {len(written)} characters, expected {_LONGEST_LINE} at the most")
        if len(lines) == MOST_LINES:
            raise ListError(number, f"there are more than {MOST_LINES} LoRAs; take some out")
        off = _OFF.match(line)
        name, *rest = (part.strip() for part in (line[off.end() :] if off else line).split(":", 3))
        if not name:
            raise ListError(number, "it has no name: expected `name : strength_model : strength_clip : blocks`")
        model = _strength(number, rest[0]) if rest and rest[0] else 1.0
        clip = _strength(number, rest[1]) if len(rest) > 1 and rest[1] else model
        lines.append(Line(number, name, model, clip, rest[2] if len(rest) > 2 else "", not off))
    return lines


def _strength(number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LIMIT:
        raise ListError(number, f"the strength {text[:40]!r} is not a number from -{_LIMIT:g} to {_LIMIT:g}")
    return value


def choice(line: Line, choices: Sequence[str]) -> str:
    """The menu's entry that a name means: itself, or the only one that is it without folder or without its extension.

    Raises:
        ListError: there is none, with the nearest names; or several.
    """
    if line.name in choices:
        return line.name
    wanted = line.name.replace("\\", "/")
    ways = (lambda path: str(path), lambda path: str(path.with_suffix("")), lambda path: path.name,
            lambda path: path.stem)  # fmt: skip
    paths = [(entry, PurePosixPath(entry.replace("\\", "/"))) for entry in choices]
    for way in ways:
        if found := [entry for entry, path in paths if way(path) == wanted]:
            if len(found) > 1:
                raise ListError(line.number, f"{line.name[:80]!r} could be {found[0]} or {found[1]}; write which")
            return found[0]
    short = {spelling: entry for entry, path in paths for spelling in (path.stem.lower(), str(path).lower())}
    near = list(dict.fromkeys(short[n] for n in get_close_matches(wanted[:255].lower(), short, n=3)))
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {len(choices)} others"
    raise ListError(line.number, f"there is no LoRA {line.name[:80]!r} in the folder loras; {hint}")
