"""Lists that users type (answers, sentences, tags): parsed and cleaned, with notes on the entries left out."""

import re
from collections.abc import Sequence

from .json_list import json_list

MOST = 10_000
_PLACE = re.compile(r"\{(?:tag|label)?\}")


def lines(text: str) -> tuple[list[str], list[str]]:
    """The lines of a text, or the entries of a JSON list, without empty and repeated ones; and notes."""
    listed, notes = json_list(text)
    return _once([line.strip() for line in text.splitlines()] if listed is None else listed, "lines", notes)


def answers(text: str) -> tuple[list[str], list[str]]:
    """Answers, one a line, or all on one line with commas between them, or a JSON list; and notes."""
    listed, notes = json_list(text)
    found = [line.strip() for line in text.splitlines() if line.strip()]
    parts = [part.strip() for part in found[0].split(",")] if len(found) == 1 else found
    return _once(parts if listed is None else listed, "answers", notes)


def words(text: str) -> tuple[list[str], list[str]]:
    """Words, one a line, or with commas between them, or both, or a JSON list; and notes."""
    listed, notes = json_list(text)
    parts = [part.strip() for line in text.splitlines() for part in line.split(",")]
    return _once(parts if listed is None else listed, "words", notes)


def _once(found: list[str], kind: str, notes: list[str]) -> tuple[list[str], list[str]]:
    """Keep each entry once, in order, and add a note on those that come again. `kind` names them in the error.

    Raises:
        ValueError: there are more than MOST.
    """
    found = [entry for entry in found if entry]
    kept = list(dict.fromkeys(found))
    if len(kept) > MOST:
        raise ValueError(f"up to {MOST:,} {kind} were expected, and {len(kept):,} came; take a shorter list")
    if len(kept) == len(found):
        return kept, notes
    twice = _repeated(found)
    more = f" and {len(twice) - 5} more" if len(twice) > 5 else ""
    return kept, [*notes, f"named more than once, counted once: {', '.join(twice[:5])}{more}"]


def _repeated(found: list[str]) -> list[str]:
    """The entries that come more than once, in order of their second occurrence."""
    before: set[str] = set()
    repeated: dict[str, None] = {}
    for entry in found:
        if entry in before:
            repeated[entry] = None
        before.add(entry)
    return list(repeated)


def sentences(template: str, tags: Sequence[str]) -> list[str]:
    """Fill the template with each tag, at {tag}, {label} or {}. Underscores of a tag become spaces.

    Raises:
        ValueError: the template has no {tag}.
    """
    if not _PLACE.search(template):
        raise ValueError(f"the template {template!r} has no place for the tag; put {{tag}} where it goes")
    return [_fill(template, tag.replace("_", " ")) for tag in tags]


def _fill(template: str, words: str) -> str:
    return _PLACE.sub(lambda _: words, template)
