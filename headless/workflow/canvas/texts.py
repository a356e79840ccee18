"""What the canvas does to texts before it sends them: dynamic prompts, %date:yyyy-MM-dd%, %Node.widget%.

From ComfyUI_frontend 1.49.6: shared-frontend-utils/src/formatUtil.ts, src/utils/searchAndReplace.ts,
src/extensions/core/saveImageExtraOutput.ts.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from datetime import datetime

from ..graph import WorkflowError

SAVING = frozenset(  # the classes whose filename_prefix has its marks replaced
    (
        "SaveImage SaveImageAdvanced SaveSVGNode SaveVideo SaveAnimatedWEBP SaveWEBM SaveAudio SaveAudioMP3 "
        "SaveAudioOpus SaveAudioAdvanced SaveGLB Save3DAdvanced SaveGaussianSplat SavePointCloud SaveAnimatedPNG "
        "CLIPSave VAESave ModelSave LoraSave SaveLatent"
    ).split()
)
_DEEPEST = 500_000  # open braces; each takes 250 bytes
_LINE = re.compile("[^\n\r\u2028\u2029]*")
_MARK = re.compile(r"\\[\s\S]|[{}|]")
_DATE = re.compile(r"dd?|MM?|hh?|mm?|ss?|yyy?y?")
_FORBIDDEN = re.compile(r'[/?<>\\:*|"\x00-\x1F\x7F]')


def dynamic_prompt(text: str) -> str:
    """A prompt as the canvas sends it: comments gone, one of {a|b} chosen at random, \\{ kept as {.

    Raises:
        WorkflowError: braces in braces, deeper than the canvas follows them.
    """
    return re.sub(r"\\([{}|])", r"\1", _choose(_without_comments(text)))


def replaced(text: str, widget_of: Callable[[str, str], object | None], now: datetime) -> str:
    """The text with its marks replaced; `widget_of(node, widget)` is None where there is none, and the mark stays."""

    def one(mark: re.Match) -> str:
        inner = mark[1]
        parts = inner.split(".")
        if len(parts) != 2:
            return dated(parts[0][5:], now) if parts[0].startswith("date:") else mark[0]
        value = widget_of(parts[0], parts[1])
        return mark[0] if value is None else _FORBIDDEN.sub("_", _text(value))

    return re.sub(r"%([^%]+)%", one, text)


def dated(form: str, now: datetime) -> str:
    """A date in the canvas's letters: yyyy-MM-dd hh:mm:ss, a single letter without a leading nought."""
    parts = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def one(found: re.Match) -> str:
        letters = found[0]
        if letters[0] == "y":
            return {"yy": f"{now.year:04}"[2:], "yyyy": str(now.year)}.get(letters, letters)
        return str(parts[letters[0]]).rjust(len(letters), "0")

    return _DATE.sub(one, form)


def _text(value: object) -> str:
    """The value as JavaScript writes it."""
    if isinstance(value, bool) or isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _without_comments(text: str) -> str:
    """The text without /* ... */ and // ...; a comment that does not end stays."""
    kept, place, ends = [], 0, True
    while (found := text.find("/", place)) >= 0:
        following = text[found + 1 : found + 2]
        end = -1
        if following == "/":
            end = line.end() if (line := _LINE.match(text, found)) else len(text)
        elif following == "*" and ends:
            end = text.find("*/", found + 2) + 2
            ends = end > 1
        kept.append(text[place : max(found, place)] if end > 1 else text[place : found + 1])
        place = end if end > 1 else found + 1
    return "".join([*kept, text[place:]])


def _choose(text: str) -> str:
    """One of the options of each {a|b}, the inner ones first; a block that does not end goes to the end of the text."""
    if "{" not in text:
        return text
    open_blocks: list[tuple[list[str], list[str]]] = [([], [])]  # the options so far, the pieces of the next
    place = 0
    for mark in _MARK.finditer(text):
        options, current = open_blocks[-1]
        current.append(text[place : mark.start()])
        place = mark.end()
        if mark[0] == "{":
            open_blocks.append(([], []))
            if len(open_blocks) > _DEEPEST:
                raise WorkflowError(
                    f"a text has more than {_DEEPEST} open braces within each other, where {{a|b}} is a choice; write "
                    "\\{ for a brace that is meant"
                )
        elif len(open_blocks) > 1 and mark[0] == "}":
            _close(open_blocks)
        elif len(open_blocks) > 1 and mark[0] == "|":
            options.append("".join(current))
            current.clear()
        else:
            current.append(mark[0])
    open_blocks[-1][1].append(text[place:])
    while len(open_blocks) > 1:
        _close(open_blocks)
    return "".join(open_blocks[0][1])


def _close(open_blocks: list[tuple[list[str], list[str]]]) -> None:
    options, current = open_blocks.pop()
    open_blocks[-1][1].append(random.choice([*options, "".join(current)]))
