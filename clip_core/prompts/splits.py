"""Where a long prompt is split into chunks: arithmetic on the places of its tokens.

A rule takes a `Line` and the room in a chunk, and gives the places where a new chunk begins. As it only says where,
no rule can lose a token, make one up or put two in another order. All take time in proportion to the line.

The references: "hard" is ComfyUI's comfy/sd1_clip.py `tokenize_with_weights` (0.3.64 and 0.33.0); "comma" is
AUTOMATIC1111's modules/sd_hijack_clip.py `tokenize_line` (commit 00e0938); "sentence" goes by compel's
src/compel/embeddings_provider.py `_find_next_best_split_point` (commit c60b9fb).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..tokenizer import END, START, vocabulary

VECTOR = -1  # stands for the id where a learned vector is
_LARGE_GROUP = 8  # tokens; ComfyUI cuts a group from this size on (`max_word_length`)
_LOOK_BACK = 20  # tokens; AUTOMATIC1111's setting `comma_padding_backtrack` as it comes
_SENTENCE_ENDS = ".!?…。！？｡"
_PHRASE_ENDS = ",;:、，；："
_CLOSING = "\"')]}»”’」』）"  # may stand behind the sign that ends a sentence or phrase
_WORD_END = "</w>"


@dataclass(frozen=True)
class Line:
    """The tokens of a prompt in a row, up to a place where a chunk has to end: for each its id, the number of its span
    and of its word. Numbers rise along the line, and tokens of one span or word stand together.
    """

    ids: Sequence[int]
    spans: Sequence[int]
    words: Sequence[int]


Rule = Callable[[Line, int], list[int]]


def word_text(ids: Sequence[int]) -> str:
    """What ids say, without a blank at the end of a word; bytes that are no UTF-8 become U+FFFD. Learned vectors, start
    and end say nothing.
    """
    known = vocabulary()
    pieces = (known.pieces[number].removesuffix(_WORD_END) for number in ids if number not in (VECTOR, START, END))
    return bytes(known.bytes[letter] for piece in pieces for letter in piece).decode("utf-8", "replace")


def _starts(numbers: Sequence[int]) -> list[int]:
    """Where each run of one number starts, and the end of the last one."""
    return [0, *(place for place, (one, two) in enumerate(pairwise(numbers), 1) if one != two), len(numbers)]


def _filled(starts: Sequence[int], room: int, cut_from: int) -> list[int]:
    """Runs of tokens set into chunks one behind the other. One that does not fit any more opens the next chunk; from
    `cut_from` tokens on, or if it is longer than a chunk, it is cut where the chunk ends.
    """
    cuts, begin = [], 0
    for start, end in pairwise(starts):
        while end - begin > room:
            may_be_cut = end - start >= min(cut_from, room + 1)
            begin = begin + room if may_be_cut else start
            cuts.append(begin)
    return cuts


def _hard(line: Line, room: int) -> list[int]:
    """ComfyUI's: spans of fewer than 8 tokens stay together, longer ones are cut wherever the chunk ends."""
    return _filled(_starts(line.spans), room, _LARGE_GROUP)


def _word(line: Line, room: int) -> list[int]:
    """Words stay together, those longer than a chunk apart."""
    return _filled(_starts(line.words), room, room + 1)


def _comma(line: Line, room: int) -> list[int]:
    """AUTOMATIC1111's: a full chunk ends behind its last comma if that is one of its last 20 tokens, otherwise where it
    is full. A comma that would open the next chunk is not looked back from, nor remembered. A learned embedding
    stays together, one longer than a chunk apart (there the reference makes a chunk that is too long).
    """
    comma = vocabulary().ids["," + _WORD_END]
    cuts, begin, last_comma = [], 0, None
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


def _unbroken(line: Line, room: int) -> list[int]:
    """Starts of what AUTOMATIC1111 sets into a chunk at once: each token of text, and each learned embedding."""
    starts = []
    for start, end in pairwise(_starts(line.words)):
        is_whole = line.ids[start] == VECTOR and end - start <= room
        starts += [start] if is_whole else range(start, end)
    return [*starts, len(line.ids)]


def _sentence(line: Line, room: int) -> list[int]:
    """A full chunk ends behind its last sentence, else behind its last phrase, else behind its last word, as compel's
    does. In three things it is not compel's: a sentence or phrase has to fill half of the chunk (there a full stop as
    the third token gives a chunk of three), more signs end a sentence than the full stop, and a sign between two
    digits ends nothing (f/1.8, 16:9).
    """
    starts = _starts(line.words)
    cuts, begin = [], 0
    while len(line.ids) - begin > room:
        begin = _end_of_phrase(line, starts, begin, room) or _end_of_word(starts, begin, room)
        cuts.append(begin)
    return cuts


def _end_of_phrase(line: Line, starts: Sequence[int], begin: int, room: int) -> int | None:
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


def _last_sign(line: Line, starts: Sequence[int], word: int) -> str:
    """The last character of a word of signs, closing quotes and brackets aside; none for a sign between two digits."""
    texts = [word_text(line.ids[start:end]) for start, end in pairwise(starts[max(word - 1, 0) : word + 3])]
    before, text, after = texts if word else ("", *texts)
    if before.isdigit() and after.isdigit():
        return ""
    return text.rstrip(_CLOSING)[-1:]


def _end_of_word(starts: Sequence[int], begin: int, room: int) -> int:
    """The start of the word that does not fit; for one longer than a chunk, where the chunk is full."""
    number = bisect_right(starts, begin + room)
    start, end = starts[number - 1], starts[number]
    return begin + room if end - start > room else start


RULES: dict[str, Rule] = {"hard": _hard, "word": _word, "comma": _comma, "sentence": _sentence}
