"""A list of texts written as JSON, as programs write labels, tags and answers."""

import json
import re

_QUOTED = re.compile(r"\s*\[\s*['\"\u2018\u201c]")


def json_list(text: str) -> tuple[list[str] | None, list[str]]:
    """Read a JSON list of texts and numbers, each entry as one line; None for a text that is none, such as `[red]`.
    Also returned: notes, that a list was read, or that what looks like one is no JSON.
    """
    if not (text.lstrip().startswith("[") and text.rstrip().endswith("]")):
        return None, []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # brackets nested by the thousand
        found = [None]
    if all(isinstance(entry, str | int | float) and not isinstance(entry, bool) for entry in found):
        return [" ".join(str(entry).split()) for entry in found], [f"read as a JSON list of {len(found)}"]
    odd = "this looks like a list, but is no JSON list of texts: brackets and quotes were read as part of the words"
    return None, [odd] if _QUOTED.match(text) else []
