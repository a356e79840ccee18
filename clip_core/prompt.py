"""A prompt's text -> spans with an emphasis, in ComfyUI's dialect.

`(x)` multiplies the emphasis around it by 1.1, `(x:w)` sets it to w whatever is around it, `\\(` and `\\)` are
literal. There is no `[x]` and no BREAK. Parentheses that do not match are text. The rules, odd cases included, are
those of ComfyUI's comfy/sd1_clip.py (0.33.0: `token_weights`, `tokenize_with_weights`), written anew from their
description.
"""

import re
from dataclasses import dataclass

EMBEDDING = "embedding:"
_RAISE = 1.1  # what a pair of parentheses multiplies by
_ESCAPED = {"\\)": "\0\1", "\\(": "\0\2"}  # ComfyUI's stand-ins, `\)` first
_PARENTHESIS = re.compile(r"[()]")


@dataclass(frozen=True)
class Span:
    """A stretch of text with one emphasis. A learned embedding is a span that starts with `embedding:`."""

    text: str
    emphasis: float = 1.0


def parse(text: str) -> list[Span]:
    """The spans of a prompt, in order; an empty prompt has none."""
    for written, stand_in in _ESCAPED.items():
        text = text.replace(written, stand_in)
    spans, waiting = [], [(text, 1.0, False)]
    while waiting:  # a stack in place of recursion: deep nesting is no error
        text, emphasis, plain = waiting.pop()
        if plain:
            spans += [Span(piece, emphasis) for piece in _pieces(text)]
            continue
        waiting += reversed([_opened(part, emphasis) for part in _parts(text)])
    return spans


def split_embedding(text: str) -> tuple[str, str]:
    """The name in a span that starts with `embedding:`, and the text behind it. The name ends at whitespace, `<` or
    `[`.
    """
    words = text.removeprefix(EMBEDDING).split()
    if not words:
        return "", ""
    name, rest = words[0], " ".join(words[1:])
    end = re.search(r"[<\[]", name)
    if end:
        rest = name[end.start() :] + (" " + rest if rest else "")
        name = name[: end.start()]
    return name, rest


def _parts(text: str) -> list[str]:
    """The text cut at its outermost parentheses, which stay on. What follows an unmatched one is not cut any more,
    because the count of open ones does not come back to zero; a surplus `)` makes the count negative until a `(`
    evens it out.
    """
    parts, start, depth = [], 0, 0
    for match in _PARENTHESIS.finditer(text):
        place = match.start()
        if match.group() == "(":
            if depth == 0:
                parts.append(text[start:place])
                start = place
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                parts.append(text[start : place + 1])
                start = place + 1
    parts.append(text[start:])
    return [part for part in parts if part]


def _opened(part: str, emphasis: float) -> tuple[str, float, bool]:
    """A part from `_parts`: its text, its emphasis, and whether it is plain text now."""
    if len(part) < 2 or part[0] != "(" or part[-1] != ")":
        return part, emphasis, True
    inner = part[1:-1]
    text, colon, number = inner.rpartition(":")
    if colon and text:
        try:
            return text, float(number), False
        except ValueError:
            pass  # "(a: b)": no number behind the colon, so it is text
    return inner, emphasis * _RAISE, False


def _pieces(text: str) -> list[str]:
    """A text cut before each `embedding:` that stands behind whitespace, the escaped parentheses put back."""
    for written, stand_in in _ESCAPED.items():
        text = text.replace(stand_in, written[1:])
    return [piece for piece in re.split(rf"(?<=\s)(?={EMBEDDING})", text) if piece]
