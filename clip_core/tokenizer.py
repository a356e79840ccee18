"""Text <-> token ids: CLIP's byte-level BPE. Source of the rules: openai/CLIP clip/simple_tokenizer.py (commit
d05afc4).

Text is cleaned (ftfy, HTML entities, whitespace, lower case), cut into words by a pattern, each word's UTF-8 bytes
are written as printable characters, and neighbours are merged in the order of a table (`bpe_merges.txt.gz`) until no
entry fits. The ids in order: 256 bytes, the same 256 at the end of a word, 48894 merges, start, end.

No word contains whitespace, so a clean text is cut there first, and the ids of each piece are cached.
"""

import gzip
import heapq
import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from .config import CONTEXT

START = 49406
END = 49407
_WORD_END = "</w>"
_SPECIALS = {"<|startoftext|>": START, "<|endoftext|>": END}
_SPECIAL = "|".join(map(re.escape, _SPECIALS))
_WORD = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_WORD_OF_ASCII = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^a-z0-9]+")  # the same, where there are no blanks
_FTFY_CHANGES = re.compile(r"[^\t\n\r -%'-~]")  # or HTML: what is not printable ASCII, and `&`
_NO_BLANKS = re.compile("[\x1c-\x1f]")  # whitespace to `str.split`, not so to `regex`
_KEPT_CHARACTERS = 32  # longer strings are junk that will not come again
_KEPT = 1 << 16  # strings in each of two tables; 150 bytes each for ordinary text, 1.3 kB for 32 rare Chinese signs


def openai_clean(text: str) -> str:
    """Repaired encoding, HTML entities resolved twice."""
    if not _FTFY_CHANGES.search(text):
        return text
    import ftfy  # here: its tables take longer to read than all of this pack

    return html.unescape(html.unescape(ftfy.fix_text(text)))


def openai_words(text: str) -> list[str | int]:
    """A clean text in lower case, cut as openai/CLIP does. Start and end tokens can be written in the text, if no other
    sign touches them on the left.

    CLIPTokenizer of transformers 4 with ftfy differs in two things: it leaves HTML entities that ftfy leaves (those
    in a text with `<`, and those without `;`), and it finds start and end tokens anywhere.
    """
    import regex

    text = regex.sub(r"\s+", " ", text.strip()).strip().lower()
    return [_SPECIALS.get(word, word) for word in regex.findall(f"{_SPECIAL}|{_WORD}", text, regex.IGNORECASE)]


def transformers_words(text: str) -> list[str | int]:
    """The text cleaned and cut as CLIPTokenizer of transformers 5 (and ComfyUI with it): NFC, single spaces, lower
    case.

    It differs from OpenAI's where ftfy or HTML entities would change the text (curly quotes, full-width letters,
    ligatures, broken encodings, control characters, `&amp;`), in a capital sigma at the end of a word, in 'ſ, and for
    start and end tokens written in the text, which it finds anywhere, but only in lower case. Characters newer than
    Unicode 15 are letters here as soon as `regex` knows them, and signs in the tables of the `tokenizers` library.
    """
    import regex
    from ftfy.fixes import fix_surrogates

    words: list[str | int] = []
    for part in regex.split(f"({_SPECIAL})", fix_surrogates(text)):
        if part in _SPECIALS:
            words.append(_SPECIALS[part])
            continue
        letters = regex.sub(r"\s+", " ", unicodedata.normalize("NFC", part))
        for word in regex.findall(f"{_SPECIAL}|{_WORD}", "".join(letter.lower() for letter in letters)):
            # a special token in capitals is cut out as a word, and then cut again by GPT-2's pattern
            words += regex.findall(_WORD, word) if word in _SPECIALS else [word]
    return words


@dataclass(frozen=True)
class Rules:
    """A way to cut a text into words. `clean` takes the whole text; `words` may take a clean text piece by piece, as
    words do not cross whitespace. A special token comes as its id.
    """

    clean: Callable[[str], str]
    words: Callable[[str], list[str | int]]


RULES = {"openai": Rules(openai_clean, openai_words), "transformers": Rules(str, transformers_words)}


def byte_characters() -> list[str]:
    """A printable character for each byte (GPT-2's table): printable Latin-1 is itself, the rest follows from U+0100
    on.
    """
    own = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in own else chr(next(others)) for byte in range(256)]


class Vocabulary:
    """The tables made from the merges file. `vocabulary()` builds them once."""

    def __init__(self, merges: Sequence[tuple[str, str]]):
        letters = byte_characters()
        # ids 0..255 are the bytes in the order of their characters' numbers in Latin-1, the shifted ones last
        order = sorted(range(256), key=lambda byte: ord(letters[byte]))
        self.pieces = [letters[byte] for byte in order]
        self.pieces += [piece + _WORD_END for piece in self.pieces]
        self.pieces += [left + right for left, right in merges]
        self.pieces += list(_SPECIALS)
        self.ids = {piece: number for number, piece in enumerate(self.pieces)}
        self.byte_ids = [self.ids[letter] for letter in letters]
        self.bytes = {letter: byte for byte, letter in enumerate(letters)}
        self.merges = {(self.ids[left], self.ids[right]): rank for rank, (left, right) in enumerate(merges)}


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """The merges beside this file, read on first use."""
    lines = gzip.decompress(Path(__file__).with_name("bpe_merges.txt.gz").read_bytes()).decode("utf-8").splitlines()
    pairs = (line.split(" ") for line in lines)
    return Vocabulary([(left, right) for left, right in pairs])


def merge(ids: list[int], merges: dict[tuple[int, int], int], first_merged: int) -> list[int]:
    """Join neighbours until no pair is in the table: the pair of lowest rank first, all its occurrences from left to
    right.

    A priority queue of pairs over a linked list takes n log n steps where the textbook loop takes n squared. Like the
    textbook loop it joins all occurrences of one pair before it takes a new pair; a plain queue would differ where a
    new pair has a lower rank.
    """
    ids, after, before = list(ids), list(range(1, len(ids) + 1)), list(range(-1, len(ids) - 1))
    queue = [(merges[pair], place) for place, pair in enumerate(zip(ids, ids[1:])) if pair in merges]
    heapq.heapify(queue)
    while queue:
        rank, fresh = queue[0][0], []
        while queue and queue[0][0] == rank:
            place = heapq.heappop(queue)[1]
            right = after[place]
            if right >= len(ids) or merges.get((ids[place], ids[right])) != rank:
                continue  # one of the two has been joined to another neighbour since
            ids[place], ids[right] = first_merged + rank, -1
            after[place] = after[right]
            if after[right] < len(ids):
                before[after[right]] = place
            fresh += [place, before[place]]
        for place in set(fresh):
            if place >= 0 and ids[place] >= 0 and after[place] < len(ids):
                new_rank = merges.get((ids[place], ids[after[place]]))
                if new_rank is not None:
                    heapq.heappush(queue, (new_rank, place))
    return [number for number in ids if number >= 0]


class Kept(dict[str, tuple[int, ...]]):
    """A cache of strings' ids, which `make` computes on first use. Long strings are not kept, and a full table is
    emptied, so memory stays bounded and frequent strings are soon back. Threads may share one: each step is one
    operation of a dict, and at worst two threads compute the same ids.
    """

    def __init__(self, make: Callable[[str], tuple[int, ...]]):
        super().__init__()
        self._make = make

    def __missing__(self, string: str) -> tuple[int, ...]:
        made = self._make(string)
        if len(string) <= _KEPT_CHARACTERS:
            if len(self) >= _KEPT:
                self.clear()
            self[string] = made
        return made


def split_word(word: str) -> tuple[int, ...]:
    """The ids of one clean word."""
    known = vocabulary()
    whole = known.ids.get(word + _WORD_END) if word.isascii() else None
    if whole is not None:  # merging would give the same: every entry of the table is a product of merges
        return (whole,)
    ids = [known.byte_ids[byte] for byte in word.encode("utf-8")]
    ids[-1] += 256  # the byte that ends the word
    return tuple(merge(ids, known.merges, first_merged=512))


class Tokenizer:
    """CLIP's tokenizer. The tables are shared and read on first use, so one more costs nothing.

    `rules` is the way to clean and cut text, one of RULES; ordinary text gets the same ids under all of them.
    """

    def __init__(self, rules: str = "openai"):
        if rules not in RULES:
            raise ValueError(f"there are no tokenizer rules called {rules!r}; choose one of {', '.join(RULES)}")
        self.rules = rules
        self._words = Kept(split_word)
        self._pieces = Kept(self._piece)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without start and end; an empty text has none."""
        text = RULES[self.rules].clean(text)
        pieces = [text] if _NO_BLANKS.search(text) else text.split()
        return list(chain.from_iterable(map(self._pieces.__getitem__, pieces)))

    def encode_each(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of several texts, each as `encode` gives them."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, with blanks between words and without start and end; invalid UTF-8 becomes U+FFFD."""
        return self._text(number for number in ids if number not in (START, END)).strip()

    def piece(self, number: int) -> str:
        """The text of one token, with a blank behind it where it ends a word. Start and end keep their names."""
        return vocabulary().pieces[number] if number in (START, END) else self._text([number])

    def batch(self, texts: Sequence[str], context: int = CONTEXT, pad: int = END) -> tuple[Tensor, list[int]]:
        """Rows for the encoder (start, the text, end, then `pad`), and the number of tokens cut from each text.

        SD1 and HF's CLIP-L pad with the end token; openai/CLIP, SD2 and SDXL's G pad with 0. -> int64 [N, context], N
        """
        rows = torch.full((len(texts), context), pad, dtype=torch.long)
        cut = []
        for row, text in zip(rows, texts):
            ids = self.encode(text)
            kept = [START, *ids[: context - 2], END]
            row[: len(kept)] = torch.tensor(kept)
            cut.append(max(0, len(ids) - (context - 2)))
        return rows, cut

    def _text(self, ids: Iterable[int]) -> str:
        known = vocabulary()
        letters = "".join(known.pieces[number] for number in ids)
        parts = letters.split(_WORD_END)
        return " ".join(bytes(known.bytes[letter] for letter in part).decode("utf-8", "replace") for part in parts)

    def _piece(self, piece: str) -> tuple[int, ...]:
        if piece.isascii() and piece.isprintable() and " " not in piece and "<|" not in piece:
            # `regex` and ftfy, which take a while to import, are not needed
            return tuple(chain.from_iterable(map(self._words.__getitem__, _WORD_OF_ASCII.findall(piece.lower()))))
        ids: list[int] = []
        for word in RULES[self.rules].words(piece):
            ids += [word] if isinstance(word, int) else self._words[word]
        return tuple(ids)
