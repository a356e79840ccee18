"""The rules that split a long prompt into chunks: arithmetic on the positions of its tokens.

A rule takes a `TokenLine` and the room in a chunk, and returns the positions at which a new chunk begins. As it returns
positions alone, no rule can lose a token, make one up or reorder two. All take time linear in the line's length.

The references: "hard" is ComfyUI's comfy/sd1_clip.py `tokenize_with_weights` (0.3.64 and 0.33.0); "comma" is
AUTOMATIC1111's modules/sd_hijack_clip.py `tokenize_line` (commit 00e0938); "sentence" goes by compel's
src/compel/embeddings_provider.py `_find_next_best_split_point` (commit c60b9fb).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..tokenizer import END, START, vocabulary

VECTOR = -1  # the placeholder id of a learned vector
_LARGE_GROUP = 8  # tokens; ComfyUI cuts a group from this size on (`max_word_length`)
_LOOK_BACK = 20  # tokens; AUTOMATIC1111's setting `comma_padding_backtrack` as it comes
_SENTENCE_ENDS = ".!?…。！？｡"
_PHRASE_ENDS = ",;:、，；："
_CLOSING = "\"')]}»”’」』）"  # may follow the sign that ends a sentence or phrase
_WORD_END = "</w>"


@dataclass(frozen=True)
class TokenLine:
    """A prompt's tokens between two chunk ends that the prompt asks for (BREAK): for each token its id, the number of
    its span and the number of its word. Numbers rise along the line, so tokens of one span or word are neighbours.
    """

    ids: Sequence[int]
    spans: Sequence[int]
    words: Sequence[int]


Rule = Callable[[TokenLine, int], list[int]]


def word_text(ids: Sequence[int]) -> str:
    """The text of ids, without blanks between words; invalid UTF-8 becomes U+FFFD. Learned vectors, start and end have
    no text.
    """
    known = vocabulary()
    pieces = (known.pieces[number].removesuffix(_WORD_END) for number in ids if number not in (VECTOR, START, END))
    return bytes(known.bytes[letter] for piece in pieces for letter in piece).decode("utf-8", "replace")


def _starts(numbers: Sequence[int]) -> list[int]:
    """The start of each run of equal numbers, and the end of the last run."""
    return [0, *(at for at, (one, two) in enumerate(pairwise(numbers), 1) if one != two), len(numbers)]


def _fill(starts: Sequence[int], room: int, cut_from: int) -> list[int]:
    """Fill chunks with runs of tokens, in order. A run that does not fit opens the next chunk; a run of `cut_from`
    tokens or more, or longer than a chunk, is cut where the chunk ends.
    """
    cuts, begin = [], 0
    for start, end in pairwise(starts):
        while end - begin > room:
            may_be_cut = end - start >= min(cut_from, room + 1)
            begin = begin + room if may_be_cut else start
            cuts.append(begin)
    return cuts


def _hard(line: TokenLine, room: int) -> list[int]:
    """ComfyUI's rule: spans of fewer than 8 tokens stay whole, longer ones are cut wherever the chunk ends."""
    return _fill(_starts(line.spans), room, _LARGE_GROUP)


def _word(line: TokenLine, room: int) -> list[int]:
    """Words stay whole, unless one is longer than a chunk."""
    return _fill(_starts(line.words), room, room + 1)


def _comma(line: TokenLine, room: int) -> list[int]:
    """AUTOMATIC1111's rule: a full chunk ends behind its last comma if that is among its last 20 tokens, otherwise
    where it is full. A comma that is the first token of the next chunk triggers no look back and is not remembered. A
    learned embedding stays whole, unless it is longer than a chunk (the reference then makes a chunk that is too long).
    """
    comma = vocabulary().ids["," + _WORD_END]
    last_comma: int | None = None
    cuts, begin = [], 0
    for start, end in pairwise(_unbroken(line, room)):
        if line.ids[start] == comma:
            last_comma = start
        elif start - begin == room and last_comma is not None and start - last_comma <= _LOOK_BACK:
            begin, last_comma = last_comma + 1, None
            cuts.append(begin)
        if end - begin > room:
            begin, last_comma = start, None
            cuts.append(begin)
    return cuts


def _unbroken(line: TokenLine, room: int) -> list[int]:
    """The starts of AUTOMATIC1111's units: each token of text is one, and so is each learned embedding."""
    starts: list[int] = []
    for start, end in pairwise(_starts(line.words)):
        is_whole = line.ids[start] == VECTOR and end - start <= room
        starts += [start] if is_whole else range(start, end)
    return [*starts, len(line.ids)]


def _sentence(line: TokenLine, room: int) -> list[int]:
    """A full chunk ends behind its last sentence, else behind its last phrase, else behind its last word, as in compel.

    Three points differ from compel: a sentence or phrase has to fill half of the chunk (compel makes a chunk of three
    tokens if the third is a full stop), more signs than the full stop end a sentence, and a sign between two digits
    ends none (f/1.8, 16:9).
    """
    starts = _starts(line.words)
    cuts, begin = [], 0
    while len(line.ids) - begin > room:
        begin = _end_of_phrase(line, starts, begin, room) or _end_of_word(starts, begin, room)
        cuts.append(begin)
    return cuts


def _end_of_phrase(line: TokenLine, starts: Sequence[int], begin: int, room: int) -> int | None:
    """The last end of a sentence, else of a phrase, in the second half of the chunk that starts at `begin`."""
    first, behind = bisect_left(starts, begin + (room + 1) // 2), bisect_right(starts, begin + room)
    phrase = None
    for number in reversed(range(max(first, 1), behind)):
        sign = _last_sign(line, starts, number - 1)
        if sign and sign in _SENTENCE_ENDS:
            return starts[number]
        if phrase is None and sign and sign in _PHRASE_ENDS:
            phrase = starts[number]
    return phrase


def _last_sign(line: TokenLine, starts: Sequence[int], word: int) -> str:
    """The last character of a word, closing quotes and brackets left out; "" for a sign between two digits."""
    texts = [word_text(line.ids[start:end]) for start, end in pairwise(starts[max(word - 1, 0) : word + 3])]
    before, text, after = texts if word else ("", *texts)
    if before.isdigit() and after.isdigit():
        return ""
    return text.rstrip(_CLOSING)[-1:]


def _end_of_word(starts: Sequence[int], begin: int, room: int) -> int:
    """The start of the word that does not fit; the end of a full chunk if that word is longer than a chunk."""
    number = bisect_right(starts, begin + room)
    start, end = starts[number - 1], starts[number]
    return begin + room if end - start > room else start


RULES: dict[str, Rule] = {"hard": _hard, "word": _word, "comma": _comma, "sentence": _sentence}
