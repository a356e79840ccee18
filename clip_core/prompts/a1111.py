"""The dialect of AUTOMATIC1111's stable-diffusion-webui: a prompt's text -> spans with an emphasis.

`(x)` multiplies the emphasis by 1.1, `[x]` divides it by 1.1, `(x:w)` multiplies it by w; nested brackets multiply.
`\\(`, `\\)`, `\\[`, `\\]` and `\\\\` are literal. A bracket that is never closed counts to the end of the prompt; a
surplus closing bracket is text. The word BREAK closes a chunk. The rules are those of `parse_prompt_attention` in that
program's modules/prompt_parser.py (commit 28bd8e1), written anew from their description, and in linear time.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from .comfy import CHUNK_END, Span, Stray, Stretch, cut_at_breaks

ROUND, SQUARE = "(", "["
_FACTORS = {ROUND: 1.1, SQUARE: 1 / 1.1}
_BREAK = "BREAK"
_MARK = -1.0  # the emphasis that marks a BREAK: a bracket around it changes it, and the word is text again
_EXACT_DEPTH = 64  # open brackets up to which factors are multiplied in the original's order, for equal bits
_PIECE = re.compile(
    r"""\\ (?P<escaped> [()\[\]\\]? )
    |   (?P<opening> [(\[] )
    |   : \s* (?P<weight> [+-]?[.\d]+ ) \s* \)
    |   (?P<closing> [)\]] )
    |   [^\\()\[\]:]+ | :""",
    re.VERBOSE,
)
_UNCLOSED = {
    ROUND: "is never closed: all that follows it counts 1.1 times as much",
    SQUARE: "is never closed: all that follows it counts 1.1 times less",
}
_SURPLUS = "closes nothing and is text"
_SURPLUS_WEIGHT = "closes nothing and is text, and so is the weight before it"


class _Bracket(NamedTuple):
    number: int
    kind: str
    opens: bool


class _Scan(NamedTuple):
    """A prompt as a row of texts and brackets. By number of a bracket: its factor, and its turn in the original's
    order of multiplications.
    """

    row: list[Stretch | _Bracket]
    factors: list[float]
    turns: list[int]
    strays: list[Stray]


def merged(found: list[Stretch]) -> list[Span]:
    """Merge the stretches of a prompt into spans, at least one: neighbours of the same emphasis become one span.

    A BREAK that works becomes `CHUNK_END`. In brackets it does not work: `(a BREAK b:1.2)` has the word BREAK, with
    -1.2. A weight that is no number (`:1.2.3`) is text, where the original stops with an error.
    """
    texts: list[list[str]] = []
    emphases: list[float] = []
    for stretch in found:
        if emphases and stretch.emphasis == emphases[-1]:
            texts[-1].append(stretch.text)
        else:
            texts.append([stretch.text])
            emphases.append(stretch.emphasis)
    spans = [Span("".join(parts), emphasis) for parts, emphasis in zip(texts, emphases, strict=True)]
    # The mark is compared with merged spans, as in the original: a text "BRE\AK" with the weight -1 is a BREAK too.
    return [CHUNK_END if span == Span(_BREAK, _MARK) else span for span in spans] or [Span("")]


def stretches(text: str) -> tuple[list[Stretch], list[Stray]]:
    """Parse a prompt: its text without the brackets that set an emphasis, each BREAK as a text of its own with -1 times
    the emphasis; and the stray brackets.
    """
    scan = _scan(text)
    found: list[Stretch] = []
    around: dict[str, list[tuple[int, float]]] = {ROUND: [], SQUARE: []}  # (number, product from outside in)
    emphasis: float | None = 1.0  # None behind a bracket: computed for the next text
    for piece in scan.row:
        # A bracket changes the emphasis of all texts behind it. The products of its kind's open brackets are stacked.
        if isinstance(piece, _Bracket):
            kind = around[piece.kind]
            if piece.opens:
                kind.append((piece.number, scan.factors[piece.number] * (kind[-1][1] if kind else 1.0)))
            else:
                kind.pop()
            emphasis = None
            continue
        # A text gets the product of all open brackets, computed once for a row of brackets. A BREAK has -1 of its own.
        if emphasis is None:
            emphasis = _product(around, scan)
        found.append(piece._replace(emphasis=piece.emphasis * emphasis))
    return found, scan.strays


def _scan(text: str) -> _Scan:
    """Scan a prompt from left to right, and match brackets of each kind by a stack of the open ones."""
    scan = _Scan([], [], [], [])
    waiting: dict[str, list[tuple[int, int]]] = {ROUND: [], SQUARE: []}  # (number, place) of those open
    closed = []

    def close(kind: str, factor: float) -> None:
        number = waiting[kind].pop()[0]
        scan.factors[number] = factor
        scan.row.append(_Bracket(number, kind, False))
        closed.append(number)

    for match in _PIECE.finditer(text):
        # An opening bracket gets its number and its kind's own factor, which a weight at its end may replace.
        if match["opening"]:
            kind = match["opening"]
            waiting[kind].append((len(scan.factors), match.start()))
            scan.row.append(_Bracket(len(scan.factors), kind, True))
            scan.factors.append(_FACTORS[kind])

        # ":1.2)" closes a round bracket with a weight, and ")" or "]" closes one of its kind.
        elif match["weight"] and waiting[ROUND]:
            number = _number(match["weight"])
            if number is None:
                scan.row.append(Stretch(match.start(), match.end() - 1, match.group()[:-1], 1.0))
            close(ROUND, _FACTORS[ROUND] if number is None else number)
        elif match["closing"] and waiting[ROUND if match["closing"] == ")" else SQUARE]:
            kind = ROUND if match["closing"] == ")" else SQUARE
            close(kind, _FACTORS[kind])

        # All else is text, and a bracket in it is a stray one.
        else:
            if match["closing"] or match["weight"]:
                scan.strays.append(Stray(match.end() - 1, _SURPLUS if match["closing"] else _SURPLUS_WEIGHT))
            scan.row.extend(_texts(match))
    for kind, left in waiting.items():  # multiplied in last: first all round ones, from outside in, then the square
        closed += [number for number, _ in left]
        scan.strays.extend(Stray(place, _UNCLOSED[kind]) for _, place in left)
    scan.turns.extend(sorted(range(len(closed)), key=closed.__getitem__))
    return scan


def _texts(match: re.Match[str]) -> Iterator[Stretch]:
    """Cut a text at BREAK into stretches, each with the position of the whole text."""
    start, end = match.span()
    if match["escaped"] is not None:
        yield Stretch(start, end, match["escaped"], 1.0)  # a lone backslash leaves an empty text
        return
    for number, piece in enumerate(cut_at_breaks(match.group())):
        if number:
            yield Stretch(start, end, _BREAK, _MARK)
        yield Stretch(start, end, piece, 1.0)


def _number(written: str) -> float | None:
    try:
        return float(written)
    except ValueError:
        return None


def _product(around: dict[str, list[tuple[int, float]]], scan: _Scan) -> float:
    """The product of the open brackets' factors, in the order in which the brackets close."""
    if sum(map(len, around.values())) > _EXACT_DEPTH:
        return math.prod(kind[-1][1] for kind in around.values() if kind)
    product = 1.0
    for number in sorted((number for kind in around.values() for number, _ in kind), key=scan.turns.__getitem__):
        product *= scan.factors[number]
    return product
