"""What a reader of a prompt should be told: text that does something else than it looks like, as sentences.

Each finder looks for one kind of oddity and gives `(kind, what)` pairs; `sentences` makes one line of all that are of
one kind, so that a long prompt does not drown its reader. Characters are counted from 1. Linear in the text's length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .comfy import EMBEDDING, Span, Stray, Stretch

_SHOWN = 5  # of a kind
_USUAL = 10  # |emphasis| beyond it is most likely a slip
_LINES = {  # kind: the sentence about it; the gravest stand first, as a canvas shows one line only
    "network": "{}: text here, nothing is loaded by it; use a LoRA node and take it out of the prompt",
    "number": "{}: no number, so it is text and the bracket counts 1.1; write (word:1.2), with a point",
    "bare": "{}: text, no weight; a weight stands at the end of a bracket, as in (word:1.2)",
    "behind": "{}: text, no weight; a weight stands inside the bracket, as in (word:1.2)",
    "wide": "{}: full-width signs are text; write ( ) [ ] and : for weights",
    "capital": '{}: text; an embedding is written with "embedding:" in small letters',
    "glued": '{}: text; an embedding needs a blank or a bracket before "embedding:"',
    "huge": "an emphasis beyond 10 mostly breaks the picture, 0.5 to 1.5 is usual: {}",
    "more strays": "{}",
    "and": "{}: a plain word here, where A1111 would make two prompts of it; encode both and combine the conditionings",
    "word": "{}: a plain word here; to make BREAK, CONCAT and AVERAGE work, switch the joining words on",
    "break": "{}: a plain word with negative weight, as in A1111, and no new chunk; close the brackets before it",
    "schedule": "{}: text here, no change of words while sampling as in A1111; use two prompts, each for its steps",
    "alternate": "{}: text here, the words do not take turns at each step as in A1111",
    "square": "{}: square brackets are text in ComfyUI; (word:0.9) lowers a word",
    "share unread": "{}: the bracket behind it is text; a weight is a number in brackets that touch the word, as in "
    "AVERAGE(0.3)",
    "share": "{}: AVERAGE mixes between 0 (all before it) and 1 (all behind it); beyond, one side is subtracted",
    "enclosed": "{}: inside brackets, which end there; close them before the word and open them again behind it",
    "empty": "{}: no text on one side, so the empty prompt takes part",
    "foreign": "{}: read as an embedding here; A1111 itself knows only the bare name and would read the rest as text",
    "dropped": "{}: the backslash is dropped, as in A1111; write two to keep one",
    "kept": r"{}: the backslash stays in the text; ComfyUI knows only \( and \)",
    "other": "these words would have another weight in the other dialect: {}",
}
_WORD = re.compile(r"(?<![\w.])\w*[^\W\d_][\w'-]*")
_WEIGHT = re.compile(
    r":\s*(?P<number>[+-]?(?:[.,\d][^\s()\[\]:]*|(?i:nan|inf|infinity)))\s*\)"
    r"|(?<=[^\W\d_]):[+-]?\d*\.\d+(?![\w.])(?!\s*[)\]>:|])"
)
_BEHIND = re.compile(r"(?<!\\)\):\s*[+-]?\d*\.?\d+(?![\w.])(?!\s*[)\]>:|])")
_WIDE = re.compile(r"[（）［］]|：(?=\s*\d)")
_SQUARE = re.compile(r"(?<!\\)\[[^\[\]]*\]")
_WHEN = re.compile(r":\s*[\d.]+\s*\]$")
_AND = re.compile(r"\bAND\b")
_NETWORK = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")
_CAPITAL = re.compile(rf"(?<!\S)(?!{EMBEDDING})(?i:{EMBEDDING})[^\s<\[]{{1,40}}")
_GLUED = re.compile(rf"\S{{1,20}}{EMBEDDING}[^\s<\[]{{0,40}}")
_BACKSLASH = re.compile(r"\\[()\[\]\\]?")
_PLAIN_WORDS = re.compile(r"\b(?:BREAK|CONCAT|AVERAGE)\b"), re.compile(r"\b(?:CONCAT|AVERAGE)\b")  # BREAK works there

Found = tuple[str, str]  # kind, what


@dataclass(frozen=True)
class Own:
    """What is odd, or is not, in one dialect only.

    number: how a weight's number has to look, besides being one. squares_are_text: [ ] do not change weights. find:
    oddities that no other dialect has; lines: the sentences about them, as in _LINES, where they are not there.
    signs_only: they all have a bracket, a colon, a backslash or a joining word in them, so that other texts need not be
    searched.
    """

    number: re.Pattern[str] | None = None
    squares_are_text: bool = True
    find: Callable[[Read], Iterator[Found]] | None = None
    lines: Mapping[str, str] = field(default_factory=dict)
    signs_only: bool = False


@dataclass(frozen=True)
class Read:
    """A prompt, or a part of one, with what came of it."""

    text: str
    offset: int  # characters of the whole prompt before it
    own: Own
    break_works: bool  # BREAK is a word of the dialect's grammar
    stretches: Sequence[Stretch]
    elsewhere: Sequence[Stretch]  # as the dialect reads it that this one is compared with
    program: str  # whose dialect that is
    strays: Sequence[Stray]
    spans: Sequence[Span]

    def at(self, place: int) -> str:
        return f"at character {self.offset + place + 1}"


def find(part: Read, joined: bool) -> Iterator[Found]:
    """All oddities of a part; `joined`: the joining words work, and are not in it any more."""
    for stray in part.strays:
        yield "stray", f"the bracket {part.text[stray.place]} {part.at(stray.place)} {stray.effect}"
    yield from _weights(part)
    yield from _squares(part)
    yield from _quoted("and", _AND, part)
    yield from _quoted("network", _NETWORK, part)
    yield from _quoted("behind", _BEHIND, part)
    yield from _quoted("wide", _WIDE, part)
    yield from _quoted("capital", _CAPITAL, part)
    if not joined:
        yield from _quoted("word", _PLAIN_WORDS[part.break_works], part)
    yield from _words_elsewhere(part)
    yield from _in_spans(part.spans)
    if part.own.find is not None:
        yield from part.own.find(part)


def sentences(found: Iterable[Found], own: Own) -> tuple[str, ...]:
    """The notes on what was found, the gravest first: a line for each kind, but stray brackets one by one."""
    kinds: dict[str, dict[str, None]] = {}  # a dict for each kind, as a set that keeps the order
    for kind, what in found:
        kinds.setdefault(kind, {})[what] = None
    strays = list(kinds.pop("stray", {}))
    if len(strays) > _SHOWN:
        kinds["more strays"] = {f"{len(strays) - _SHOWN} more brackets have no partner": None}
    lines: list[str] = []
    templates = {**_LINES, **own.lines}
    templates["other"] = templates.pop("other")  # the mildest: behind those of the dialect, too
    for kind, template in templates.items():
        if kind == "more strays":
            lines += strays[:_SHOWN]
        if kind in kinds:
            lines.append(template.format(_listed(list(kinds[kind]))))
    return tuple(lines)


def shown(text: str, most: int = 40) -> str:
    """A text in quotes, on one line, cut if it is long; lone surrogates, which no file or browser takes, as U+FFFD."""
    line = " ".join(text[: 4 * most].encode("utf-16", "surrogatepass").decode("utf-16", "replace").split())
    return f'"{line[:most]}…"' if len(line) > most or len(text) > 4 * most else f'"{line}"'


def _listed(what: Sequence[str]) -> str:
    more = f" and {len(what) - _SHOWN} more" if len(what) > _SHOWN else ""
    return ", ".join(what[:_SHOWN]) + more


def _quoted(kind: str, pattern: re.Pattern[str], part: Read) -> Iterator[Found]:
    for match in pattern.finditer(part.text):
        yield kind, f"{shown(match.group())} {part.at(match.start())}"


def _weights(part: Read) -> Iterator[Found]:
    """Weights that are none."""
    for match in _WEIGHT.finditer(part.text):
        written = match["number"]
        if written is None:
            yield "bare", f"{shown(match.group())} {part.at(match.start())}"
        elif not _is_number(written, part.own):
            yield "number", f"{shown(':' + written)} {part.at(match.start())}"


def _is_number(written: str, own: Own) -> bool:
    if own.number is not None and not own.number.fullmatch(written):
        return False
    try:
        float(written)
    except ValueError:
        return False
    return True


def _squares(part: Read) -> Iterator[Found]:
    for match in _SQUARE.finditer(part.text):
        inside = match.group()
        if _WHEN.search(inside, max(0, len(inside) - 20)):
            kind = "schedule"
        elif "|" in inside:
            kind = "alternate"
        elif part.own.squares_are_text:
            kind = "square"
        else:
            continue
        yield kind, f"{shown(inside)} {part.at(match.start())}"


def _words_elsewhere(part: Read) -> Iterator[Found]:
    here, there = _Weights(part.stretches), _Weights(part.elsewhere)
    for match in _WORD.finditer(part.text):
        weight, weight_there = here.at(match.start()), there.at(match.start())
        if weight is None or weight_there is None or match.group() == "BREAK":
            continue
        if abs(weight - weight_there) > 1e-6 * max(1.0, abs(weight), abs(weight_there)):
            yield "other", f"{shown(match.group())} {weight:.4g} here and {weight_there:.4g} in {part.program}"


class _Weights:
    """The emphasis at a place of the prompt; to be asked from left to right."""

    def __init__(self, stretches: Sequence[Stretch]):
        self._stretches = [stretch for stretch in stretches if stretch.text != "BREAK"]
        self._next = 0

    def at(self, place: int) -> float | None:
        while self._next < len(self._stretches) and self._stretches[self._next].end <= place:
            self._next += 1
        if self._next == len(self._stretches) or self._stretches[self._next].start > place:
            return None
        return self._stretches[self._next].emphasis


def _in_spans(spans: Sequence[Span]) -> Iterator[Found]:
    for span in spans:
        if abs(span.emphasis) > _USUAL and span.text.strip():
            yield "huge", f"{shown(span.text, 20)} has {span.emphasis:.4g}"
        for match in _GLUED.finditer(span.text):
            yield "glued", shown(match.group(), 60)


def _only_comfy(part: Read) -> Iterator[Found]:
    yield from (("kept", what) for what, sign in _backslashes(part) if sign in (r"\[", r"\]", r"\\"))


def _only_a1111(part: Read) -> Iterator[Found]:
    for stretch in part.stretches:
        if stretch.text == "BREAK" and stretch.emphasis != -1:
            place = part.text.index("BREAK", stretch.start)
            yield "break", f'"BREAK" {part.at(place)} in brackets (weight {stretch.emphasis:.4g})'
    for span in part.spans:
        if span.text.startswith(EMBEDDING):
            yield "foreign", shown(span.text.split(maxsplit=1)[0])
    yield from (("dropped", what) for what, sign in _backslashes(part) if sign == "\\")


def _backslashes(part: Read) -> Iterator[tuple[str, str]]:
    for match in _BACKSLASH.finditer(part.text):
        yield f"{shown(part.text[match.start() : match.start() + 2])} {part.at(match.start())}", match.group()


COMFY = Own(find=_only_comfy, signs_only=True)
A1111 = Own(re.compile(r"[+-]?[.\d]+"), squares_are_text=False, find=_only_a1111, signs_only=True)
