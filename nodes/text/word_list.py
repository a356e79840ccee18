"""What the canvas completes while one writes a prompt: the names of embeddings, and the words of the user's own list.

A list lies in the input folder: a text with one word or phrase a line, or the tables of A1111's tag completion,
`tag,category,count,"alias,alias"` (DominikDoom/a1111-sd-webui-tagcomplete, README).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import PurePath

from ...files.errors import FileFormatError
from ..host import host
from .embeddings import without_extension

SUFFIXES = (".txt", ".csv")
MOST_BYTES, MOST_WORDS = 24 * 2**20, 300_000
_LONGEST = 200  # characters of a word

Word = tuple[str, int, list[str]]  # how it is written, how often it is used (0: unknown), its other names


def answer(question: object) -> dict:
    """Answer {"list": the name of a list}: its words, the most used first, and the names of all embeddings. A list that
    is not there, or cannot be read, is answered with "problem", a sentence, beside the names.

    Raises:
        ValueError: the question is not of this form.
    """
    name = question.get("list") if isinstance(question, dict) else None
    if not isinstance(name, str):
        raise ValueError('a JSON object with the name of a word list was expected; send {"list": "words.txt"}')
    names = sorted({without_extension(PurePath(each).as_posix()) for each in host.folder_names("embeddings")})
    try:
        return {"embeddings": names, "words": read(name) if name else []}
    except (ValueError, OSError) as error:
        return {"embeddings": names, "words": [], "problem": str(error)}


def read(name: str) -> list[Word]:
    """The words of a list, the most used first.

    Raises:
        FileNotFoundError: there is none of this name in the input folder.
        ValueError: it is too large, no text, or called otherwise.
    """
    if not name.lower().endswith(SUFFIXES) or name.endswith("[output]"):
        raise ValueError(f"a word list ends in {' or '.join(SUFFIXES)}, but {name!r:.60} came; choose another")
    path = host.data_path(name)
    if (size := path.stat().st_size) > MOST_BYTES:
        most = f"{MOST_BYTES // 2**20} MB"
        raise FileFormatError(path, f"a word list of at most {most} was expected, but it has {size / 2**20:.0f} MB")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(path, "a text in UTF-8 was expected; save it as that") from error
    return words(text.splitlines(), table=path.suffix.lower() == ".csv")


def words(lines: Iterable[str], *, table: bool) -> list[Word]:
    """The words of these lines, the most used first, each once.

    >>> words(["1girl,0,6008644,\\"1girls,sole_female\\"", "solo,0,5000954,"], table=True)
    [('1girl', 6008644, ['1girls', 'sole_female']), ('solo', 5000954, [])]
    """
    found: dict[str, Word] = {}
    for row in csv.reader(lines) if table else ([line] for line in lines):
        word = _plain(row[0]) if row else ""
        if not word or word.startswith("#") or word in found:
            continue
        count = int(row[2]) if len(row) > 2 and row[2].strip().isdecimal() else 0
        others = [_plain(each) for each in row[3].split(",")] if len(row) > 3 else []
        found[word] = word, count, [each for each in others if each]
        if len(found) == MOST_WORDS:
            break
    return sorted(found.values(), key=lambda word: -word[1])


def _plain(written: str) -> str:
    return " ".join(written.split())[:_LONGEST]
