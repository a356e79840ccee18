"""A list of LoRAs as text: one a line, `name : strength_model : strength_clip : blocks # words: a, b`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import PurePosixPath

MOST_LINES, _LONGEST_LINE = 1000, 2000
_OFF = re.compile(r"(?:off|-)\s+", re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|\s)#")
_WORDS = re.compile(r"(?:^|\s)#\s*words\s*:(.*?)(?=\s#|$)")
_LIMIT = 100.0


class ListError(ValueError):
    """A line with a mistake. The message names the line's number; `sentence` is the message without the number."""

    def __init__(self, number: int, sentence: str):
        super().__init__(f"line {number} of the LoRAs: {sentence}")
        self.number, self.sentence = number, sentence


@dataclass(frozen=True)
class LoRALine:
    """One LoRA of a list, switched on or off; `number` is its line in the text, from 1.

    words: the trigger words that were chosen for it; None where the file's own shall be taken.
    """

    number: int
    name: str
    strength_model: float = 1.0
    strength_clip: float = 1.0
    blocks: str = ""
    on: bool = True
    words: tuple[str, ...] | None = None


def parse(text: str) -> list[LoRALine]:
    """The LoRAs of a list, those that are off included. Empty lines and comments (from # on) are skipped.

    A line is off where it begins with the word `off` or with `-`, and a space behind it. Strengths that are left out
    are 1, and the CLIP's is the MODEL's; blocks may have colons of their own. A comment that begins with `words:` holds
    the trigger words chosen, with commas between; it ends where the next comment begins.

    Raises:
        ListError: no name, a strength that is not a number or beyond 100, or too many or too long lines.
    """
    lines = []
    for line in parse_each(text):
        if isinstance(line, ListError):
            raise line
        lines.append(line)
    return lines


def parse_each(text: str) -> list[LoRALine | ListError]:
    """Every line of a list, as `parse` gives them; a line with a mistake becomes its ListError, which is not raised."""
    lines: list[LoRALine | ListError] = []
    count = 0
    for number, written in enumerate(text.splitlines(), 1):
        try:
            line = _parse_line(number, written)
            if line and count == MOST_LINES:
                raise ListError(number, f"there are more than {MOST_LINES} LoRAs; take some out")
        except ListError as error:
            lines.append(error)
            continue
        if line:
            count += 1
            lines.append(line)
    return lines


def _parse_line(number: int, written: str) -> LoRALine | None:
    head = written[: _LONGEST_LINE + 1]
    mark = _COMMENT.search(head)
    line = (head[: mark.start()] if mark else head).strip()
    if not line:
        return None
    if len(written) > _LONGEST_LINE:
        raise ListError(number, f"it has {len(written)} characters, expected {_LONGEST_LINE} at the most")
    off = _OFF.match(line)
    name, *rest = (part.strip() for part in (line[off.end() :] if off else line).split(":", 3))
    if not name:
        raise ListError(number, "it has no name: expected `name : strength_model : strength_clip : blocks`")
    model = _strength(number, rest[0]) if rest and rest[0] else 1.0
    clip = _strength(number, rest[1]) if len(rest) > 1 and rest[1] else model
    words = _WORDS.search(head, mark.start()) if mark else None
    chosen = None if words is None else split_words(words[1])
    return LoRALine(number, name, model, clip, rest[2] if len(rest) > 2 else "", not off, chosen)


def split_words(text: str) -> tuple[str, ...]:
    """The words between commas and line breaks, each once, without the space around them."""
    parts = (" ".join(part.split()) for part in re.split(r"[,\n]", text))
    return tuple(dict.fromkeys(part for part in parts if part))


def clean_name(written: str) -> str:
    """What stands before the first colon of a line, to call it by when it cannot be followed."""
    line = _COMMENT.split(written[:_LONGEST_LINE], maxsplit=1)[0].strip()
    off = _OFF.match(line)
    name = (line[off.end() :] if off else line).split(":", 1)[0].strip()
    return (name or line)[:80]


def _strength(number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LIMIT:
        raise ListError(number, f"the strength {text[:40]!r} is not a number from -{_LIMIT:g} to {_LIMIT:g}")
    return value


def choice(line: LoRALine, choices: Sequence[str], *, nearest: bool = True) -> str:
    """The menu's entry that a name means: the same name, or the only entry equal to it without folder or extension.

    Raises:
        ListError: no entry fits (`nearest` adds the closest names, which takes some milliseconds), or several do.
    """
    if line.name in choices:
        return line.name
    wanted = line.name.replace("\\", "/")
    spelled = _spellings(tuple(choices))
    for entries in spelled:
        if found := entries.get(wanted):
            if len(found) > 1:
                raise ListError(line.number, f"{line.name[:80]!r} could be {found[0]} or {found[1]}; write which")
            return found[0]
    near = _nearest(wanted, spelled[-1]) if nearest else []
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {len(choices)} others"
    raise ListError(line.number, f"there is no LoRA {line.name[:80]!r} in the folder loras; {hint}")


def _nearest(wanted: str, stems: dict[str, list[str]]) -> list[str]:
    short = {stem.lower(): found[-1] for stem, found in stems.items()}
    return [short[stem] for stem in get_close_matches(PurePosixPath(wanted[:255]).stem.lower(), short, n=3)]


@lru_cache(maxsize=4)
def _spellings(choices: tuple[str, ...]) -> tuple[dict[str, list[str]], ...]:
    """The menu's entries by whole path, by path without extension, by file name, and by that without extension."""
    ways: tuple[dict[str, list[str]], ...] = ({}, {}, {}, {})
    for entry in choices:
        path = PurePosixPath(entry.replace("\\", "/"))
        for entries, spelling in zip(ways, (str(path), str(path.with_suffix("")), path.name, path.stem)):
            entries.setdefault(spelling, []).append(entry)
    return ways
