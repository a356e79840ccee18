"""Spans -> chunks of 77 tokens: start, up to 75 tokens of the prompt, end, padding. Where a long prompt is split is a
choice, see splits.py; a span that closes its chunk (BREAK) does so in each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from ..config import CONTEXT
from ..tokenizer import END, START, vocabulary
from .comfy import EMBEDDING, Span, split_embedding
from .splits import RULES, VECTOR, Line, word_text

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = tuple(RULES)  # "hard", "word", "comma", "sentence"
_NO_WORD = 0  # of start, end and padding
_LONGEST_NAME = 256  # tokens; the name of a file has at most 255 bytes
_NAMED = 5  # cut words and embeddings that a note names
_NAMELESS = f"there is no name behind {EMBEDDING!r}; write the name of a file in the embeddings folder right behind it"


@dataclass(frozen=True)
class Token:
    """A place in a chunk: a token id, or a learned vector [C]; the emphasis on it; the number of its span, from 1
    (ComfyUI's "word id"); the number of its word, from 1, where a learned embedding is one word. Start, end and padding
    are of span and word 0.
    """

    id: int | Tensor
    emphasis: float = 1.0
    span: int = _NO_WORD
    word: int = _NO_WORD


Chunk = list[Token]
FindEmbedding = Callable[[str], "Tensor | str"]  # its vectors [n, C] or [C], or a sentence why there are none
BareName = Callable[[Sequence[int]], "tuple[str, int] | None"]  # ids -> the embedding they begin with, its ids' count


class Encodes(Protocol):
    """What `pack` needs of a tokenizer: the ids of a text, and of several, without start and end."""

    def encode(self, text: str) -> list[int]: ...

    def encode_each(self, texts: Iterable[str]) -> list[list[int]]: ...


@dataclass(frozen=True)
class Packed:
    """The chunks of a prompt, at least one; which learned embeddings it named, and what else one should know."""

    chunks: list[Chunk]
    empty: Chunk  # that of an empty prompt, which weightings compare with
    found: tuple[str, ...] = ()
    lost: dict[str, str] = field(default_factory=dict)  # name -> why; the prompt went on without these
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens of the prompt itself, over all chunks."""
        return sum(self.used)

    @property
    def used(self) -> list[int]:
        """Of each chunk, how many of its places the prompt took."""
        return [sum(token.span != _NO_WORD for token in chunk) for chunk in self.chunks]


def pack(
    spans: Sequence[Span],
    tokenizer: Encodes,
    pad: int = END,
    find_embedding: FindEmbedding | None = None,
    context: int = CONTEXT,
    *,
    split: str = "hard",
    bare_name: BareName | None = None,
) -> Packed:
    """The chunks of a prompt for one encoder, each of `context` tokens, split by the rule `split` (one of SPLITS).

    `pad` fills a chunk behind its end token. `find_embedding(name)` gives a learned embedding's vectors [n, C] or [C],
    or a sentence that says why there are none; without the function, `embedding:name` is text. `bare_name(ids)` says
    whether text begins with the name of an embedding, as AUTOMATIC1111 writes them; where its vectors cannot be had,
    the name stays text. Chunks that two BREAKs leave empty are there; an empty one at the end is not.

    Raises:
        ValueError: there is no such split, or `context` leaves no room for a token.
    """
    if split not in RULES:
        raise ValueError(f"there is no way of splitting a prompt called {split!r}; choose one of {', '.join(SPLITS)}")
    if context < 3:
        raise ValueError(f"a chunk of {context} tokens has no room beside start and end; it takes at least 3")
    # All plain text becomes ids at once. What stands behind the name of an embedding waits until that is looked up.
    plain = [span for span in spans if not span.closes_chunk and (find_embedding is None or not _is_named(span))]
    ids = iter(tokenizer.encode_each([span.text for span in plain]))
    lines = _Lines(find_embedding, bare_name)
    for span in spans:
        if span.closes_chunk:
            lines.close()
        elif find_embedding is not None and _is_named(span):
            _read_named(span, tokenizer, lines)
        else:
            lines.add_text(next(ids), span.emphasis)
    if len(lines.all) > 1 and not lines.all[-1]:
        lines.all.pop()  # a BREAK at the end opens no chunk

    # Each line is split where the rule says, and each part of it is a chunk.
    parts = [part for line in lines.all for part in _split(line, split, context - 2)]
    chunks = [_closed(part, pad, context) for part in parts]
    notes = tuple(_cut_notes(parts, lines.names, split, context - 2))
    return Packed(chunks, empty_chunk(pad, context), tuple(dict.fromkeys(lines.names.values())), lines.lost, notes)


def empty_chunk(pad: int, context: int = CONTEXT) -> Chunk:
    """The chunk of an empty prompt."""
    return _closed([], pad, context)


def padded(chunks: Sequence[Chunk], count: int, pad: int) -> list[Chunk]:
    """At least `count` chunks: these (one or more), and empty ones behind them."""
    return [*chunks, *(empty_chunk(pad, len(chunks[0])) for _ in range(count - len(chunks)))]


class _Lines:
    """The tokens of a prompt, a line for each stretch between two BREAKs, and what they were made of.

    Spans and words are numbered as their tokens come, so the numbers go on over lines and chunks.
    """

    def __init__(self, find_embedding: FindEmbedding | None, bare_name: BareName | None):
        self.all: list[list[Token]] = [[]]
        self.names: dict[int, str] = {}  # number of the word -> the learned embedding that stands there
        self.lost: dict[str, str] = {}
        self._find, self._bare_name = find_embedding, bare_name
        self._looked_up: dict[str, Tensor | str] = {}
        self._span = self._word = 0

    def close(self) -> None:
        self.all.append([])

    def vectors(self, name: str) -> Iterable[Tensor] | str:
        """An embedding's vectors, or why there are none; each name is looked up once."""
        if name not in self._looked_up:
            found = self._find(name) if name else _NAMELESS
            self._looked_up[name] = found if isinstance(found, str) or found.ndim > 1 else found[None]
        return self._looked_up[name]

    def add_vectors(self, name: str, vectors: Iterable[Tensor], emphasis: float) -> None:
        """A learned embedding that is a span of its own."""
        self._span += 1
        self._add_word(name, vectors, emphasis)

    def add_text(self, ids: Sequence[int], emphasis: float) -> None:
        """A span of text, in which learned embeddings may stand by their bare names."""
        self._span += 1
        line, ends, place, is_open = self.all[-1], _word_ends(), 0, False
        while place < len(ids):
            # The name of an embedding ends the word before it; its vectors are a word of their own.
            taken = self._add_named(ids, place, emphasis)
            if taken:
                place, is_open = place + taken, False
                continue
            # A token begins a word, unless one is open: the last token was no end of a word.
            self._word += not is_open
            line.append(Token(ids[place], emphasis, self._span, self._word))
            is_open = ids[place] not in ends
            place += 1

    def _add_named(self, ids: Sequence[int], place: int, emphasis: float) -> int:
        """How many ids from a place on are the bare name of an embedding, whose vectors are in the line now."""
        if self._bare_name is None or self._find is None:
            return 0
        named = self._bare_name(ids[place : place + _LONGEST_NAME])
        if named is None:
            return 0
        vectors = self.vectors(named[0])
        if isinstance(vectors, str):
            self.lost[named[0]] = f"{vectors}; its name stays text"
            return 0
        self._add_word(named[0], vectors, emphasis)
        return named[1]

    def _add_word(self, name: str, vectors: Iterable[Tensor], emphasis: float) -> None:
        self._word += 1
        self.names[self._word] = name
        self.all[-1] += [Token(vector, emphasis, self._span, self._word) for vector in vectors]


def _is_named(span: Span) -> bool:
    return span.text.startswith(EMBEDDING)


def _read_named(span: Span, tokenizer: Encodes, lines: _Lines) -> None:
    """The tokens of a span that begins with the name of an embedding."""
    name, text = split_embedding(span.text)
    vectors, bare = lines.vectors(name), name.strip(",")

    # "embedding:cat," asks for the file "cat,", and if there is none for "cat" with a comma behind it.
    if isinstance(vectors, str) and len(bare) < len(name):
        vectors, text, name = lines.vectors(bare), f"{name[len(bare) :]} {text}", bare

    # An embedding that is not found leaves nothing behind but a note.
    if isinstance(vectors, str):
        lines.lost[name] = vectors
    else:
        lines.add_vectors(name, vectors, span.emphasis)
    if text:
        lines.add_text(tokenizer.encode(text), span.emphasis)


@lru_cache(maxsize=1)
def _word_ends() -> frozenset[int]:
    """The ids behind which a word ends."""
    pieces = vocabulary().pieces
    return frozenset({number for number, piece in enumerate(pieces) if piece.endswith("</w>")} | {START, END})


def _split(tokens: Sequence[Token], split: str, room: int) -> list[Sequence[Token]]:
    if len(tokens) <= room:
        return [tokens]
    ids = [token.id if isinstance(token.id, int) else VECTOR for token in tokens]
    line = Line(ids, [token.span for token in tokens], [token.word for token in tokens])
    cuts = RULES[split](line, room)
    return [tokens[start:end] for start, end in zip([0, *cuts], [*cuts, len(tokens)])]


def _closed(tokens: Sequence[Token], pad: int, context: int) -> Chunk:
    chunk = [Token(START), *tokens, Token(END)]
    return chunk + [Token(pad)] * (context - len(chunk))


def _cut_notes(parts: Sequence[Sequence[Token]], names: dict[int, str], split: str, room: int) -> list[str]:
    """Sentences about the words and embeddings that lie in more than one chunk."""
    cut = {one[-1].word for one, two in zip(parts, parts[1:]) if one and two and one[-1].word == two[0].word}
    told: dict[str, dict[str, None]] = {}  # what happened -> to which, in order
    for word, tokens in groupby((token for part in parts for token in part), lambda token: token.word):
        if word in cut:
            ids = [token.id for token in tokens]
            kind = "embedding" if word in names else "word"
            why = _advice(kind, split) if len(ids) <= room else f"longer than the {room} tokens of a chunk"
            text = names[word] if word in names else word_text(ids)
            told.setdefault(f"{kind} cut between two chunks, {why}", {})[text] = None
    return [f"{what}: {_listed(list(texts))}" for what, texts in told.items()]


def _advice(kind: str, split: str) -> str:
    whole = [name for name in SPLITS if name != "hard" and (kind == "embedding" or name != "comma")]
    return f"by the splitting {split}; {' or '.join(whole)} keep{'' if len(whole) > 1 else 's'} it whole"


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _NAMED
    shown = [text if len(text) <= 40 else text[:40] + "..." for text in texts[:_NAMED]]
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
