"""Spans -> chunks of 77 tokens: start, up to 75 tokens of the prompt, end, padding.

Where a long prompt is split is ComfyUI's rule (comfy/sd1_clip.py `tokenize_with_weights`): a span is one group; a
group of fewer than 8 tokens that does not fit any more moves whole to the next chunk, a longer one is cut wherever
the chunk ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .config import CONTEXT
from .prompt import EMBEDDING, Span, split_embedding
from .tokenizer import END, START

if TYPE_CHECKING:
    from torch import Tensor

_LARGE = 8  # tokens; a group from this size on may be cut
_NO_WORD = 0  # of start, end and padding


@dataclass(frozen=True)
class Token:
    """A place in a chunk: a token id, or a learned vector [C]; the emphasis on it; the number of its span, from 1."""

    id: int | Tensor
    emphasis: float = 1.0
    word: int = _NO_WORD


Chunk = list[Token]
FindEmbedding = Callable[[str], "Tensor | None"]


class Encodes(Protocol):
    """What `pack` needs of a tokenizer."""

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Packed:
    """The chunks of a prompt, at least one, and which learned embeddings it named."""

    chunks: list[Chunk]
    found: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()  # the prompt went on without these

    @property
    def tokens(self) -> int:
        """Tokens of the prompt itself, over all chunks."""
        return sum(token.word != _NO_WORD for chunk in self.chunks for token in chunk)


def pack(
    spans: Sequence[Span],
    tokenizer: Encodes,
    pad: int = END,
    find_embedding: FindEmbedding | None = None,
    context: int = CONTEXT,
) -> Packed:
    """The chunks of a prompt for one encoder, each of `context` tokens.

    `pad` fills a chunk behind its end token. `find_embedding(name)` gives a learned embedding's vectors [n, C] or
    [C], or None where there is none of that name for this encoder; without the function, `embedding:name` is text.
    """
    groups, found, missing = [], [], []
    for span in spans:
        text = span.text
        if find_embedding is not None and text.startswith(EMBEDDING):
            name, vectors, text = _look_up(text, find_embedding)
            (missing if vectors is None else found).append(name)
            if vectors is not None:
                groups.append([(vector, span.emphasis) for vector in vectors])
            if not text:
                continue
        groups.append([(number, span.emphasis) for number in tokenizer.encode(text)])
    return Packed(_fill(groups, pad, context), tuple(dict.fromkeys(found)), tuple(dict.fromkeys(missing)))


def empty_chunk(pad: int, context: int = CONTEXT) -> Chunk:
    """The chunk of an empty prompt."""
    return [Token(START), Token(END), *[Token(pad)] * (context - 2)]


def _look_up(text: str, find_embedding: FindEmbedding) -> tuple[str, Iterable[Tensor] | None, str]:
    """The name, its vectors and the text left over. A name that is not found is tried without the commas around it."""
    name, rest = split_embedding(text)
    vectors = find_embedding(name) if name else None
    bare = name.strip(",")
    if vectors is None and len(bare) < len(name):
        vectors = find_embedding(bare) if bare else None
        rest = f"{name[len(bare) :]} {rest}"
        name = bare
    if vectors is not None and vectors.ndim == 1:
        vectors = vectors[None]
    return name, vectors, rest


def _fill(groups: Sequence[list[tuple[int | Tensor, float]]], pad: int, context: int) -> list[Chunk]:
    chunks, chunk = [], [Token(START)]
    for word, group in enumerate(groups, 1):
        tokens = [Token(number, emphasis, word) for number, emphasis in group]
        may_be_cut = len(tokens) >= _LARGE
        while len(chunk) + len(tokens) > context - 1:
            room = context - 1 - len(chunk)
            cut = tokens[:room] if may_be_cut else []
            chunks.append(_closed([*chunk, *cut], pad, context))
            chunk, tokens = [Token(START)], tokens[len(cut) :]
        chunk += tokens
    return [*chunks, _closed(chunk, pad, context)]


def _closed(chunk: Chunk, pad: int, context: int) -> Chunk:
    chunk = [*chunk, Token(END)]
    return chunk + [Token(pad)] * (context - len(chunk))
