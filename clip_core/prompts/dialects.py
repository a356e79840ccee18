"""The table of dialects, and a prompt's text -> its parts, each a list of spans, with notes on its oddities.

Each dialect's grammar is a file of its own. In every dialect, as an addition of this pack, the words CONCAT and AVERAGE
can join parts that are encoded separately. A new dialect is a file with its grammar, and a row in DIALECTS.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from . import a1111, comfy, oddities
from .comfy import CHUNK_END, Span, Stray, Stretch, cut_at_breaks, cut_at_embeddings

_DEFAULT_WEIGHTS = {"CONCAT": 1.0, "AVERAGE": 0.5}
_MOST_PARTS = 100  # joining takes time and memory in proportion to the parts times their chunks
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf(?:inity)?)"
_JOIN = re.compile(  # escapes and brackets too: they tell whether the word stands inside brackets
    rf"\\[()] | [()] | (?<!embedding:)\b(?P<join>CONCAT|AVERAGE)\b (?: \( \s* (?P<weight>(?i:{_NUMBER})) \s* \) )?",
    re.VERBOSE,
)
_NO_WEIGHT = re.compile(rf"\(|\s+\(\s*(?i:{_NUMBER})\s*\)")  # behind a joining word: what looks like its weight
# "(words)" and "(words:1.2)"; bounded numbers, so that a row of digits takes no quadratic time
_PLAIN_BRACKET = re.compile(r"\([^()\[\]\\:]+(?::[+-]?[0-9]{1,9}(?:\.[0-9]{0,9})?)?\)")
_MARK = re.compile(r"[()\[\]\\]")
# the brackets of those whose weight is below 10, and what else makes a text worth a second look
_USUAL_BRACKET = re.compile(r"\(([^()\[\]\\:]+)(?::[+-]?[0-9](?:\.[0-9]{0,9})?)?\)")
_SIGN = re.compile(r"[()\[\]\\<>:\uff08\uff09\uff3b\uff3d\uff1a]|\b(?:AND|BREAK|CONCAT|AVERAGE)\b")


class PromptError(ValueError):
    """A prompt that cannot be encoded."""


@dataclass(frozen=True)
class Dialect:
    """A grammar of prompts, with the weighting and the splitting that belong to it.

    program: the program whose dialect it is. reading: its particulars for the user, in a tooltip that begins "How the
    text is read.". stretches: the grammar. merge: turns its stretches into spans. weighting: a style of
    `emphasis.STYLES`. split: a rule of `splits.RULES`. break_word: BREAK starts a new chunk even with joining words
    off. bare_names: embeddings are written without `embedding:`. odd: the oddities of this dialect alone. compared: the
    dialect whose weights the notes give beside its own, "" for none. plain_brackets: `(words)` and `(words:1.2)`
    outside of other brackets mean what they mean in ComfyUI.
    """

    name: str
    program: str
    reading: str
    stretches: Callable[[str], tuple[list[Stretch], list[Stray]]]
    merge: Callable[[list[Stretch]], list[Span]]
    weighting: str
    split: str
    break_word: bool = False
    bare_names: bool = False
    odd: oddities.Own = field(default_factory=oddities.Own)
    compared: str = ""
    plain_brackets: bool = False


DIALECTS: dict[str, Dialect] = {
    "comfy": Dialect(
        "comfy",
        "ComfyUI",
        "as ComfyUI, an inner (word:1.2) replaces the weight around it",
        comfy.stretches,
        comfy.unmerged,
        weighting="comfy",
        split="hard",
        odd=oddities.COMFY,
        compared="a1111",
        plain_brackets=True,
    ),
    "a1111": Dialect(
        "a1111",
        "A1111",
        "as the AUTOMATIC1111 web UI, weights multiply, [word] lowers, BREAK starts a new chunk, embeddings by their "
        "bare names",
        a1111.stretches,
        a1111.merged,
        weighting="a1111",
        split="comma",
        break_word=True,
        bare_names=True,
        odd=oddities.A1111,
        compared="comfy",
        plain_brackets=True,
    ),
}


@dataclass(frozen=True)
class Part:
    """A part of a prompt that is encoded separately, and the way it is joined to all parts before it."""

    text: str  # as written, BREAK included, for encoders whose prompts the host parses
    spans: tuple[Span, ...]
    join: str = ""  # "" (the first), "CONCAT" (its encoding times weight follows) or "AVERAGE" (weight of this part)
    weight: float = 1.0


@dataclass(frozen=True)
class Reading:
    """A parsed prompt."""

    parts: tuple[Part, ...]  # at least one
    notes: tuple[str, ...]  # sentences


@dataclass(frozen=True)
class _Cut:
    """A part's position [start, end) in the prompt, and the joining word before it."""

    start: int
    end: int
    join: str = ""
    weight: float = 1.0
    place: int = 0  # of the word


def read(text: str, dialect: str = "comfy", join_words: bool = False) -> Reading:
    """Read a prompt.

    `join_words`: the prompt is cut at CONCAT, CONCAT(w), AVERAGE and AVERAGE(w), and BREAK closes a chunk in every
    dialect, also in brackets where it is no word of the dialect's own. CONCAT: the encoding of the part behind it,
    times w (1 if not given), follows along the tokens. AVERAGE: (1 - w) times all before it plus w (0.5 if not given)
    times the part behind it.

    Raises:
        PromptError: the dialect is unknown, an emphasis or a weight is infinite or no number, or there are more than
        100 parts.
    """
    if dialect not in DIALECTS:
        raise PromptError(f'there is no dialect "{dialect}"; choose one of {", ".join(DIALECTS)}')
    own = DIALECTS[dialect]
    other = DIALECTS.get(own.compared)
    found: list[oddities.Found] = []
    cuts = list(_cuts(text, found)) if join_words else [_Cut(0, len(text))]
    if len(cuts) > _MOST_PARTS:
        raise PromptError(
            f"at most {_MOST_PARTS} parts were expected, but CONCAT and AVERAGE divide this prompt into {len(cuts)}; "
            "take some of these words away, or join conditionings with Combine Conditioning (CVL)"
        )
    parts = []
    for cut in cuts:
        written = text[cut.start : cut.end]
        stretches, strays = own.stretches(written)
        spans = _spans(stretches, own, join_words)
        _require_finite(spans)
        if own.plain_brackets and own.odd.signs_only and _is_usual(written):
            parts.append(Part(written, tuple(spans), cut.join, cut.weight))
            continue
        elsewhere, program = stretches, ""
        if other is not None:  # its grammar is asked only where it may find other weights
            alike = own.plain_brackets and other.plain_brackets and _reads_alike(written)
            elsewhere, program = stretches if alike else other.stretches(written)[0], other.program
        part = oddities.Read(written, cut.start, own.odd, own.break_word, stretches, elsewhere, program, strays, spans)
        found += oddities.find(part, join_words)
        if len(cuts) > 1 and not written:
            word = cut if cut.join else cuts[1]
            found.append(("empty", f"{word.join} at character {word.place + 1}"))
        parts.append(Part(written, tuple(spans), cut.join, cut.weight))
    return Reading(tuple(parts), oddities.sentences(found, own.odd) if found else ())


def _is_usual(text: str) -> bool:
    """Whether a text surely has no oddity: words, punctuation, and brackets that all programs read alike."""
    return bool(text) and not _SIGN.search(_USUAL_BRACKET.sub(r" \1 ", text))


def _reads_alike(text: str) -> bool:
    """Whether all grammars with plain brackets give each word the same weight: all brackets are round, closed and not
    nested, all weights plain numbers. False does not mean that they differ.
    """
    return not _MARK.search(_PLAIN_BRACKET.sub("", text))


def _cuts(text: str, found: list[oddities.Found]) -> Iterator[_Cut]:
    """Cut a prompt at its joining words, without the blanks around them. Oddities of the words are added to `found`."""
    cut, depth = _Cut(0, len(text)), 0
    for match in _JOIN.finditer(text):
        if not match["join"]:
            depth = max(0, depth + {"(": 1, ")": -1}.get(match.group(), 0))
            continue
        yield _trimmed(text, replace(cut, end=match.start()))
        join = match["join"]
        weight = float(match["weight"] or _DEFAULT_WEIGHTS[join])
        cut = _Cut(match.end(), len(text), join, weight, match.start())
        place = f'"{match.group()}" at character {match.start() + 1}'
        if not math.isfinite(weight):
            raise PromptError(f"{place} needs a finite number as its weight, such as {join}(0.5)")
        if join == "AVERAGE" and not 0 <= weight <= 1:
            found.append(("share", place))
        if match["weight"] is None and _NO_WEIGHT.match(text, match.end()):
            found.append(("share unread", f"{place} counts {weight:g}"))
        if depth:
            found.append(("enclosed", place))
        depth = 0
    yield _trimmed(text, cut) if cut.join else cut


def _trimmed(text: str, cut: _Cut) -> _Cut:
    written = text[cut.start : cut.end]
    start = cut.start + len(written) - len(written.lstrip())
    return replace(cut, start=start, end=start + len(written.strip()))


def _spans(stretches: list[Stretch], dialect: Dialect, join_words: bool) -> list[Span]:
    """The spans of a part, cut so that each embedding behind a blank starts a span; spans without text are left out."""
    spans = []
    for span in dialect.merge(stretches):
        if span.closes_chunk:
            spans.append(span)
        cuts_at_break = join_words and not dialect.break_word
        for number, piece in enumerate(cut_at_breaks(span.text) if cuts_at_break else [span.text]):
            if number:
                spans.append(CHUNK_END)
            spans += [Span(text, span.emphasis) for text in cut_at_embeddings(piece)]
    return spans


def _require_finite(spans: list[Span]) -> None:
    for span in spans:
        if not math.isfinite(span.emphasis):
            came = "infinite" if math.isinf(span.emphasis) else "not a number"
            raise PromptError(
                f"the emphasis of {oddities.shown(span.text)} is {came}: weights must be finite, such as 1.2; lower "
                "the weights there, or take brackets away"
            )
