"""Lists that users type: answers, sentences and tags, cleaned, and what was left out said."""

import re
from collections.abc import Sequence

MOST = 10_000
_PLACE = re.compile(r"\{(?:tag|label)?\}")


def lines(text: str) -> tuple[list[str], list[str]]:
    """What stands on each line, without empty lines and repetitions; and notes."""
    return _once([line.strip() for line in text.splitlines()], "lines")


def answers(text: str) -> tuple[list[str], list[str]]:
    """One a line; with commas between them where there is one line only. And notes."""
    found = [line.strip() for line in text.splitlines() if line.strip()]
    return _once([part.strip() for part in found[0].split(",")] if len(found) == 1 else found, "answers")


def words(text: str) -> tuple[list[str], list[str]]:
    """One a line, or with commas between them, or both. And notes."""
    return _once([part.strip() for line in text.splitlines() for part in line.split(",")], "words")


def _once(found: list[str], what: str) -> tuple[list[str], list[str]]:
    """Each entry once, in the order in which they came.

    Raises:
        ValueError: there are more than MOST.
    """
    found = [entry for entry in found if entry]
    kept = list(dict.fromkeys(found))
    if len(kept) > MOST:
        raise ValueError(f"up to {MOST:,} {what} were expected, and {len(kept):,} came; take a shorter list")
    if len(kept) == len(found):
        return kept, []
    twice = _repeated(found)
    more = f" and {len(twice) - 5} more" if len(twice) > 5 else ""
    return kept, [f"named more than once, counted once: {', '.join(twice[:5])}{more}"]


def _repeated(found: list[str]) -> list[str]:
    seen: set[str] = set()
    return list(dict.fromkeys(entry for entry in found if entry in seen or seen.add(entry)))


def sentences(template: str, tags: Sequence[str]) -> list[str]:
    """Each tag in the template, at {tag}, {label} or {}; its underscores read as spaces.

    Raises:
        ValueError: the template has no place for it.
    """
    if not _PLACE.search(template):
        raise ValueError(f"the template {template!r} has no place for the tag; put {{tag}} where it goes")
    return [_PLACE.sub(lambda _, tag=tag: tag.replace("_", " "), template) for tag in tags]
