"""A prompt's text -> spans with an emphasis, in ComfyUI's dialect; and what every dialect speaks of.

`(x)` multiplies the emphasis around it by 1.1, `(x:w)` sets it to w whatever is around it, `\\(` and `\\)` are
literal. There is no `[x]` and no BREAK. Parentheses that do not match are text. The rules, odd cases included, are
those of ComfyUI's comfy/sd1_clip.py (0.33.0: `token_weights`, `tokenize_with_weights`), written anew from their
description, and in linear time: one scan finds where each parenthesis is evened out, so that a level can step over
what is nested in it.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import NamedTuple

EMBEDDING = "embedding:"
_RAISE = 1.1  # what a pair of parentheses multiplies by
_ESCAPED = {"\\)": "\0\1", "\\(": "\0\2"}  # ComfyUI's stand-ins, `\)` first; as long as what they stand for
_BREAK = re.compile(rf"(?<!{EMBEDDING})\bBREAK\b")


@dataclass(frozen=True)
class Span:
    """A stretch of text with one emphasis. A learned embedding is a span that starts with `embedding:`."""

    text: str
    emphasis: float = 1.0
    closes_chunk: bool = False


CHUNK_END = Span("", 1.0, True)  # the word BREAK, where it works


class Stretch(NamedTuple):
    """Text of one emphasis, and the places [start, end) in the prompt where it stands, escapes included."""

    start: int
    end: int
    text: str
    emphasis: float


class Stray(NamedTuple):
    """A bracket without a partner: its place in the prompt, and what came of it, to stand behind "the bracket"."""

    place: int
    effect: str


_SURPLUS = "closes nothing: the outermost brackets behind it are text and their weights do nothing"
_SURPLUS_LAST = "closes nothing and is text"
_EVENED = "is never closed and is text, because of the ) too many before it"
_UNCLOSED = "is never closed: it and what follows it are text, brackets and weights included"
_LENT = "has no ) of its own and takes the last one: the emphasis there counts for all between"


def parse(text: str) -> list[Span]:
    """The spans of a prompt, in order; an empty prompt has none."""
    return [
        Span(piece, stretch.emphasis) for stretch in stretches(text)[0] for piece in cut_at_embeddings(stretch.text)
    ]


def stretches(text: str) -> tuple[list[Stretch], list[Stray]]:
    """The prompt's text without the parentheses that worked, in order, and the ones that did not."""
    # From here on every parenthesis in the text is one that may work: those escaped are other characters.
    for written, stand_in in _ESCAPED.items():
        text = text.replace(written, stand_in)
    brackets = [match.start() for match in re.finditer(r"[()]", text)]
    evened = _evened(text, brackets)
    colons = [match.start() for match in re.finditer(":", text)]
    found, strays = [], _surplus(text, brackets)
    waiting = [(0, len(text), 0, 1.0)]  # a stack in place of recursion: start, end, first bracket, emphasis
    while waiting:
        start, end, first, emphasis = waiting.pop()

        # A ")" that comes first has no partner on this level: all up to where the brackets even out again is text.
        opening = first  # the level's next "(" that is not text
        while opening < len(brackets) and brackets[opening] < end and text[brackets[opening]] == ")":
            opening = evened[opening]
            if opening < len(brackets) and evened[opening] == len(brackets):
                strays.append(Stray(brackets[opening], _EVENED))
            opening += 1
        if opening >= len(brackets) or brackets[opening] >= end:
            found.append(_stretch(text, start, end, emphasis))
            continue

        # The text before the "(" has this level's emphasis. Behind the ")" that closes it the level goes on.
        place = brackets[opening]
        found.append(_stretch(text, start, place, emphasis))
        closing = brackets[evened[opening]] if evened[opening] < len(brackets) else end
        if closing < end:
            waiting.append((closing + 1, end, evened[opening] + 1, emphasis))
        elif text[end - 1] == ")":  # nothing closes it, and ComfyUI takes a ")" at the level's end for the partner
            strays.append(Stray(place, _LENT))
            closing = end - 1
        else:  # nothing closes it, and the rest of the level is text
            strays.append(Stray(place, _UNCLOSED))
            found.append(_stretch(text, place, end, emphasis))
            continue

        # What is inside is a level of its own, and comes next: the stack gives back last what was put in first.
        bound, inner = _inside(text, place, closing, emphasis, colons, brackets)
        waiting.append((place + 1, bound, opening + 1, inner))
    return [stretch for stretch in found if stretch.text], sorted(strays)


def unmerged(found: list[Stretch]) -> list[Span]:
    """Each stretch of a prompt as a span of its own."""
    return [Span(stretch.text, stretch.emphasis) for stretch in found]


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


def cut_at_embeddings(text: str) -> list[str]:
    """A text cut before each `embedding:` that stands behind whitespace; no empty pieces."""
    return [piece for piece in re.split(rf"(?<=\s)(?={EMBEDDING})", text) if piece]


def cut_at_breaks(text: str) -> list[str]:
    """A text cut at each word BREAK, which goes away with the whitespace around it; n words make n + 1 pieces."""
    # A1111 looks for r"\s*\bBREAK\b\s*"; a pattern that starts with \s* takes quadratic time on blanks
    first, *rest = _BREAK.split(text)
    if not rest:
        return [first]
    return [first.rstrip(), *(piece.strip() for piece in rest[:-1]), rest[-1].lstrip()]


def _evened(text: str, brackets: list[int]) -> list[int]:
    """For each bracket, by number, the next one behind which as many are open as before it; their count if none."""
    depth = text.count("(") - text.count(")")
    last = {}  # open brackets -> the leftmost bracket seen so far behind which they are open
    evened = [0] * len(brackets)
    for number in reversed(range(len(brackets))):
        last[depth] = number
        depth -= 1 if text[brackets[number]] == "(" else -1
        evened[number] = last.get(depth, len(brackets))
    return evened


def _surplus(text: str, brackets: list[int]) -> list[Stray]:
    """The closing parentheses that have no partner."""
    strays, depth, last_opening = [], 0, text.rfind("(")
    for place in brackets:
        depth += 1 if text[place] == "(" else -1
        if depth < 0:
            strays.append(Stray(place, _SURPLUS if place < last_opening else _SURPLUS_LAST))
            depth = 0
    return strays


def _inside(
    text: str, opening: int, closing: int, emphasis: float, colons: list[int], brackets: list[int]
) -> tuple[int, float]:
    """Where the text between two parentheses ends, and its emphasis."""
    colon = colons[bisect_left(colons, closing) - 1] if colons else -1
    bracket = brackets[bisect_left(brackets, closing) - 1]  # a number has none in it, and need not be looked at twice
    if max(opening + 1, bracket) < colon < closing:
        try:
            return colon, float(text[colon + 1 : closing])
        except ValueError:
            pass  # "(a: b)": no number behind the colon, so it is text
    return closing, emphasis * _RAISE


def _stretch(text: str, start: int, end: int, emphasis: float) -> Stretch:
    """The text between two places, the escaped parentheses put back."""
    piece = text[start:end]
    for written, stand_in in _ESCAPED.items():
        piece = piece.replace(stand_in, written[1:])
    return Stretch(start, end, piece, emphasis)
