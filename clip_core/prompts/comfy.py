"""ComfyUI's dialect: a prompt's text -> spans with an emphasis; and the types that all dialects share.

`(x)` multiplies the emphasis around it by 1.1, `(x:w)` replaces it by w, `\\(` and `\\)` are literal. `[x]` and BREAK
are text, and so are parentheses that do not match. The rules, odd cases included, are those of ComfyUI's
comfy/sd1_clip.py (0.33.0: `token_weights`, `tokenize_with_weights`), written anew from their description, and in linear
time: one scan finds the partner of each parenthesis, so that a nesting level can step over the levels inside it.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import NamedTuple

EMBEDDING = "embedding:"
_RAISE = 1.1  # what a pair of parentheses multiplies by
_ESCAPED = {"\\)": "\0\1", "\\(": "\0\2"}  # ComfyUI's stand-ins, `\)` first; as long as what they stand for
_NAMELESS = re.compile(rf"(?<![^\s(),]){EMBEDDING}(?:\s*:\s*[+-]?[\d.]+\s*(?=\))|(?=\s*(?:$|[()]|{EMBEDDING})))")
_BREAK = re.compile(rf"(?<!{EMBEDDING})\bBREAK\b")


@dataclass(frozen=True)
class Span:
    """Text with one emphasis. A learned embedding is a span that starts with `embedding:`."""

    text: str
    emphasis: float = 1.0
    closes_chunk: bool = False


CHUNK_END = Span("", 1.0, True)  # the word BREAK, where it works


class Stretch(NamedTuple):
    """Text with one emphasis, and its position [start, end) in the prompt, escapes included."""

    start: int
    end: int
    text: str
    emphasis: float


class Stray(NamedTuple):
    """A bracket without a partner: its position in the prompt, and its effect in words that follow "the bracket"."""

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
    """Parse a prompt: its text without the parentheses that set an emphasis, in order, and the stray parentheses."""
    # Escaped parentheses become other characters, so each parenthesis that is left may set an emphasis.
    for written, stand_in in _ESCAPED.items():
        text = text.replace(written, stand_in)
    brackets = [match.start() for match in re.finditer(r"[()]", text)]
    partners = _partners(text, brackets)
    colons = [match.start() for match in re.finditer(":", text)]
    found, strays = [], _surplus(text, brackets)

    # Each pair of parentheses is a nesting level with an emphasis. Levels are parsed from left to right with a stack,
    # as recursion would fail on a prompt of a thousand parentheses.
    waiting = [(0, len(text), 0, 1.0)]  # start, end, number of the first bracket, emphasis
    while waiting:
        start, end, first, emphasis = waiting.pop()

        # Find the level's next "(". A ")" before it has no partner here: like ComfyUI, skip as text all up to the
        # bracket behind which as many are open as before that ")".
        opening = first
        while opening < len(brackets) and brackets[opening] < end and text[brackets[opening]] == ")":
            opening = partners[opening]
            if opening < len(brackets) and partners[opening] == len(brackets):
                strays.append(Stray(brackets[opening], _EVENED))
            opening += 1
        if opening >= len(brackets) or brackets[opening] >= end:
            found.append(_stretch(text, start, end, emphasis))
            continue

        # The text before the "(" has this level's emphasis. The level continues behind the partner of the "(".
        place = brackets[opening]
        found.append(_stretch(text, start, place, emphasis))
        closing = brackets[partners[opening]] if partners[opening] < len(brackets) else end
        if closing < end:
            waiting.append((closing + 1, end, partners[opening] + 1, emphasis))
        elif text[end - 1] == ")":  # it is never closed, and ComfyUI takes a ")" at the level's end for its partner
            strays.append(Stray(place, _LENT))
            closing = end - 1
        else:  # it is never closed, and the rest of the level is text
            strays.append(Stray(place, _UNCLOSED))
            found.append(_stretch(text, place, end, emphasis))
            continue

        # The text inside is a level of its own. It is pushed last, so it is parsed before the rest of this level.
        bound, inner = _inside(text, place, closing, emphasis, colons, brackets)
        waiting.append((place + 1, bound, opening + 1, inner))
    return [stretch for stretch in found if stretch.text], sorted(strays)


def unmerged(found: list[Stretch]) -> list[Span]:
    """Turn each stretch of a prompt into a span of its own."""
    return [Span(stretch.text, stretch.emphasis) for stretch in found]


def split_embedding(text: str) -> tuple[str, str]:
    """Split a span that starts with `embedding:` into the name and the text behind it. A name ends at whitespace, `<`
    or `[`.
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


def without_nameless(text: str) -> tuple[str, int]:
    """Leave out each `embedding:` without a name behind it, which ComfyUI's tokenizers fail at, with the weight of its
    bracket, which would be read as words; and their number.
    """
    return _NAMELESS.subn("", text)


def cut_at_embeddings(text: str) -> list[str]:
    """Cut a text before each `embedding:` that follows whitespace. Empty pieces are left out."""
    return [piece for piece in re.split(rf"(?<=\s)(?={EMBEDDING})", text) if piece]


def cut_at_breaks(text: str) -> list[str]:
    """Cut a text at each word BREAK, and drop the word with the whitespace around it; n words give n + 1 pieces."""
    # A1111's pattern is r"\s*\bBREAK\b\s*"; one that starts with \s* takes quadratic time on blanks
    first, *rest = _BREAK.split(text)
    if not rest:
        return [first]
    return [first.rstrip(), *(piece.strip() for piece in rest[:-1]), rest[-1].lstrip()]


def _partners(text: str, brackets: list[int]) -> list[int]:
    """For the number of each bracket that of its partner: the next bracket behind which the depth is what it was
    before. For a bracket without a partner it is the count of brackets.
    """
    # One scan from right to left: the depth behind the last bracket is known, and each bracket changes it by one.
    depth = text.count("(") - text.count(")")
    nearest: dict[int, int] = {}  # depth -> number of the leftmost bracket so far behind which it is the depth
    partners = [0] * len(brackets)
    for number in reversed(range(len(brackets))):
        nearest[depth] = number
        depth -= 1 if text[brackets[number]] == "(" else -1
        partners[number] = nearest.get(depth, len(brackets))
    return partners


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
    """The end of the text between two parentheses, before its `:1.2` if any, and its emphasis."""
    colon = colons[bisect_left(colons, closing) - 1] if colons else -1
    bracket = brackets[bisect_left(brackets, closing) - 1]  # no number contains one: a weight stands behind it
    if max(opening + 1, bracket) < colon < closing:
        try:
            return colon, float(text[colon + 1 : closing])
        except ValueError:
            pass  # "(a: b)": no number behind the colon, so it is text
    return closing, emphasis * _RAISE


def _stretch(text: str, start: int, end: int, emphasis: float) -> Stretch:
    """The text between two positions, with its escaped parentheses restored."""
    piece = text[start:end]
    for written, stand_in in _ESCAPED.items():
        piece = piece.replace(stand_in, written[1:])
    return Stretch(start, end, piece, emphasis)
