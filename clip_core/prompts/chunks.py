"""Spans -> chunks of 77 tokens: start, up to 75 tokens of the prompt, end, padding. `splits.py` has the rules that
split a long prompt; a span that closes its chunk (BREAK) does so under every rule.
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
from .splits import RULES, VECTOR, TokenLine, word_text

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = tuple(RULES)  # "hard", "word", "comma", "sentence"
_NO_WORD = 0  # the span and word of start, end and padding
_LONGEST_NAME = 256  # tokens; the name of a file has at most 255 bytes
_NAMED = 5  # cut words and embeddings named in a note
_NAMELESS = f"there is no name behind {EMBEDDING!r}; write the name of a file in the embeddings folder right behind it"


@dataclass(frozen=True)
class Token:
    """One position of a chunk: a token id or a learned vector [C], with its emphasis, the number of its span (ComfyUI's
    "word id") and the number of its word. Both count from 1; start, end and padding have 0. A learned embedding is one
    word.
    """

    id: int | Tensor
    emphasis: float = 1.0
    span: int = _NO_WORD
    word: int = _NO_WORD


Chunk = list[Token]
FindEmbedding = Callable[[str], "Tensor | str"]  # name -> vectors [n, C] or [C], or the reason for having none
BareName = Callable[[Sequence[int]], "tuple[str, int] | None"]  # ids -> the embedding name they begin with, its ids


class Encodes(Protocol):
    """A tokenizer as `pack` uses it: the ids of a text, and of several texts, without start and end."""

    def encode(self, text: str) -> list[int]: ...

    def encode_each(self, texts: Iterable[str]) -> list[list[int]]: ...


@dataclass(frozen=True)
class Packed:
    """The chunks of a prompt for one encoder, at least one, and the learned embeddings that it names."""

    chunks: list[Chunk]
    empty: Chunk  # of the empty prompt, which some weightings compare with
    found: tuple[str, ...] = ()  # names of embeddings whose vectors are in the chunks
    lost: dict[str, str] = field(default_factory=dict)  # names of embeddings that were left out -> the reason
    notes: tuple[str, ...] = ()  # sentences

    @property
    def tokens(self) -> int:
        """Tokens of the prompt itself, over all chunks."""
        return sum(self.used)

    @property
    def used(self) -> list[int]:
        """For each chunk, the number of its tokens that are the prompt's."""
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
    """Pack a prompt's spans into chunks for one encoder, each of `context` tokens.

    Args:
        spans: the prompt, as a dialect gives it.
        tokenizer: turns text into ids.
        pad: the id that fills a chunk behind its end token.
        find_embedding: gives a learned embedding's vectors, or a sentence that says why there are none. None:
            `embedding:name` is text.
        context: tokens of a chunk, start and end included.
        split: the rule that splits a long prompt, one of SPLITS.
        bare_name: finds the name of an embedding at the beginning of ids, as AUTOMATIC1111 writes them. Where its
            vectors are missing, the name stays text.

    Returns:
        the chunks, with the embeddings found and left out. Two BREAKs in a row leave an empty chunk; a BREAK at the
        end does not.

    Raises:
        ValueError: there is no such split, or `context` has no room for a token.
    """
    if split not in RULES:
        raise ValueError(f"there is no way of splitting a prompt called {split!r}; choose one of {', '.join(SPLITS)}")
    if context < 3:
        raise ValueError(f"a chunk of {context} tokens has no room beside start and end; it takes at least 3")
    # All plain text becomes ids at once. Text behind an embedding's name waits until the name is looked up.
    plain = [span for span in spans if not span.closes_chunk and (find_embedding is None or not _is_named(span))]
    ids = iter(tokenizer.encode_each([span.text for span in plain]))
    lines = _Lines(find_embedding, bare_name)

    # Each span adds its tokens to the current line; a BREAK starts a new line.
    for span in spans:
        if span.closes_chunk:
            lines.close()
        elif find_embedding is not None and _is_named(span):
            _add_named_span(span, tokenizer, lines)
        else:
            lines.add_text(next(ids), span.emphasis)
    if len(lines.all) > 1 and not lines.all[-1]:
        lines.all.pop()  # a BREAK at the end opens no chunk

    # The rule splits each line into parts, and each part becomes a chunk.
    parts = [part for line in lines.all for part in _split(line, split, context - 2)]
    chunks = [_closed(part, pad, context) for part in parts]
    notes = tuple(_cut_notes(parts, lines.names, split, context - 2))
    return Packed(chunks, empty_chunk(pad, context), tuple(dict.fromkeys(lines.names.values())), lines.lost, notes)


def empty_chunk(pad: int, context: int = CONTEXT) -> Chunk:
    """The chunk of an empty prompt."""
    return _closed([], pad, context)


def padded(chunks: Sequence[Chunk], count: int, pad: int) -> list[Chunk]:
    """Fill up to `count` chunks with empty ones behind the given ones, of which there is at least one."""
    return [*chunks, *(empty_chunk(pad, len(chunks[0])) for _ in range(count - len(chunks)))]


class _Lines:
    """The tokens of a prompt while they are added span by span: a line for the text between two BREAKs.

    Spans and words are numbered in order of their tokens, over all lines and chunks.
    """

    def __init__(self, find_embedding: FindEmbedding | None, bare_name: BareName | None):
        self.all: list[list[Token]] = [[]]
        self.names: dict[int, str] = {}  # number of a word -> the learned embedding that it is
        self.lost: dict[str, str] = {}
        self._find, self._bare_name = find_embedding, bare_name
        self._looked_up: dict[str, Tensor | str] = {}
        self._span = self._word = 0

    def close(self) -> None:
        self.all.append([])

    def vectors(self, name: str) -> Iterable[Tensor] | str:
        """An embedding's vectors, or the reason for having none. Each name is looked up once."""
        if name not in self._looked_up:
            found = self._find(name) if name and self._find is not None else _NAMELESS
            self._looked_up[name] = found if isinstance(found, str) or found.ndim > 1 else found[None]
        return self._looked_up[name]

    def add_vectors(self, name: str, vectors: Iterable[Tensor], emphasis: float) -> None:
        """Add a learned embedding as a span of its own."""
        self._span += 1
        self._add_word(name, vectors, emphasis)

    def add_text(self, ids: Sequence[int], emphasis: float) -> None:
        """Add a span of text, which may contain bare names of learned embeddings."""
        self._span += 1
        line, ends, at, is_open = self.all[-1], _word_ends(), 0, False
        while at < len(ids):
            # An embedding's bare name ends the word before it. Its vectors take the place of the name's ids, as one
            # word.
            taken = self._add_bare_name(ids, at, emphasis)
            if taken:
                at, is_open = at + taken, False
                continue

            # A token continues the word of the token before it, unless that token ended its word.
            self._word += not is_open
            line.append(Token(ids[at], emphasis, self._span, self._word))
            is_open = ids[at] not in ends
            at += 1

    def _add_bare_name(self, ids: Sequence[int], at: int, emphasis: float) -> int:
        """Add an embedding's vectors if its bare name begins at `at`. Returns the number of the name's ids, or 0."""
        if self._bare_name is None or self._find is None:
            return 0
        named = self._bare_name(ids[at : at + _LONGEST_NAME])
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


def _add_named_span(span: Span, tokenizer: Encodes, lines: _Lines) -> None:
    """Add a span that begins with `embedding:` to the lines: the vectors, then the text behind the name."""
    name, text = split_embedding(span.text)
    vectors, bare = lines.vectors(name), name.strip(",")

    # "embedding:cat," is the file "cat,"; if there is none, it is the file "cat" and a comma behind it.
    if isinstance(vectors, str) and len(bare) < len(name):
        vectors, text, name = lines.vectors(bare), f"{name[len(bare) :]} {text}", bare

    # A missing embedding is left out of the prompt, with a note.
    if isinstance(vectors, str):
        lines.lost[name] = vectors
    else:
        lines.add_vectors(name, vectors, span.emphasis)
    if text:
        lines.add_text(tokenizer.encode(text), span.emphasis)


@lru_cache(maxsize=1)
def _word_ends() -> frozenset[int]:
    """The ids that end a word."""
    pieces = vocabulary().pieces
    return frozenset({number for number, piece in enumerate(pieces) if piece.endswith("</w>")} | {START, END})


def _split(tokens: Sequence[Token], split: str, room: int) -> list[Sequence[Token]]:
    """Split a line into parts of at most `room` tokens."""
    if len(tokens) <= room:
        return [tokens]
    ids = [token.id if isinstance(token.id, int) else VECTOR for token in tokens]
    line = TokenLine(ids, [token.span for token in tokens], [token.word for token in tokens])
    cuts = RULES[split](line, room)
    return [tokens[start:end] for start, end in zip([0, *cuts], [*cuts, len(tokens)])]


def _closed(tokens: Sequence[Token], pad: int, context: int) -> Chunk:
    """A chunk of these tokens: start before them, end and padding behind them."""
    chunk = [Token(START), *tokens, Token(END)]
    return chunk + [Token(pad)] * (context - len(chunk))


def _cut_notes(parts: Sequence[Sequence[Token]], names: dict[int, str], split: str, room: int) -> list[str]:
    """Sentences about the words and embeddings that are cut between two chunks."""
    # A word is cut if the last token of one part and the first of the next part are both in it.
    cut = {one[-1].word for one, two in zip(parts, parts[1:]) if one and two and one[-1].word == two[0].word}

    # One sentence for each reason, with the texts of its words in order and each of them once.
    texts_by_reason: dict[str, dict[str, None]] = {}
    for word, tokens in groupby((token for part in parts for token in part), lambda token: token.word):
        if word in cut:
            ids = [token.id if isinstance(token.id, int) else VECTOR for token in tokens]
            kind = "embedding" if word in names else "word"
            why = _advice(kind, split) if len(ids) <= room else f"longer than the {room} tokens of a chunk"
            text = names[word] if word in names else word_text(ids)
            texts_by_reason.setdefault(f"{kind} cut between two chunks, {why}", {})[text] = None
    return [f"{reason}: {_listed(list(texts))}" for reason, texts in texts_by_reason.items()]


def _advice(kind: str, split: str) -> str:
    """The reason for a cut, with the splittings that avoid it."""
    whole = [name for name in SPLITS if name != "hard" and (kind == "embedding" or name != "comma")]
    return f"by the splitting {split}; {' or '.join(whole)} keep{'' if len(whole) > 1 else 's'} it whole"


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _NAMED
    shown = [text if len(text) <= 40 else text[:40] + "..." for text in texts[:_NAMED]]
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
