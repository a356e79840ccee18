"""Tables of pairs: CSV or TSV with a header, or JSONL; a picture's file, its caption and its class by usual names.

Names of columns are those of open_clip (filepath, title), of Hugging Face's image folders (file_name, text) and their
like. Files lie where the table says, seen from the table.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path

from ..errors import FileFormatError
from .pairs import Pair, Pairs

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson")
_FILES = ("filepath", "file_name", "filename", "file", "image", "image_path", "path", "picture")
_CAPTIONS = ("caption", "title", "text", "description")
_LABELS = ("label", "class", "class_name", "category")
_MOST_BYTES = 4 << 30
_LONGEST_FIELD = 1 << 20


def table_pairs(path: Path) -> Pairs:
    """Read a table of pairs; the pictures are not opened, but have to be there.

    Raises:
        FileFormatError: no table of this kind, no column of files, or none of captions or classes.
    """
    lines = path.suffix.lower() in (".jsonl", ".ndjson")
    rows = _json_rows(path) if lines else _csv_rows(path)
    pairs: list[Pair] = []
    unused: dict[str, str] = {}
    for number, row in rows:
        file, caption, label = (_first(row, names) for names in (_FILES, _CAPTIONS, _LABELS))
        name = f"{path.name}, line {number}" + (f" ({file})" if file else "")
        where = path.parent / file
        if why := _why_unused(file, where):
            unused[name] = why
        else:
            pairs.append(Pair(name, where, caption, label))
    if not pairs:
        why = next(iter(unused.values()), "it has no rows")
        raise FileFormatError(
            path, f"a table of pictures with captions was expected, but none of its rows has one: {why}"
        )
    return Pairs(tuple(pairs), unused)


def _why_unused(file: str, where: Path) -> str:
    if not file:
        return f"it names no picture (a column of {', '.join(_FILES[:3])}, ... was expected)"
    try:
        return "" if where.is_file() else "the picture is not there"
    except (OSError, ValueError):  # a name that no disk has
        return "the picture is not there"


def _first(row: Mapping[str, object], names: Sequence[str]) -> str:
    """The first of these columns that says something."""
    for name in names:
        value = row.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return " ".join(str(value).split()) if names is not _FILES else str(value).strip()
    return ""


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    text = _text(path)
    head = text.split("\n", 1)[0]
    separator = (
        "\t" if path.suffix.lower() == ".tsv" or "\t" in head else ";" if head.count(";") > head.count(",") else ","
    )
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        if not set(names) & set(_FILES) or not set(names) & {*_CAPTIONS, *_LABELS}:
            raise FileFormatError(
                path,
                f"its first line was expected to name a column of files ({_FILES[0]}) and one of captions "
                f"({_CAPTIONS[0]}) or classes ({_LABELS[0]}), and names {', '.join(names)[:200] or 'nothing'}: add it",
            )
        for row in reader:
            if row:
                yield reader.line_num, dict(zip(names, row))
    except csv.Error as error:
        raise FileFormatError(path, f"line {reader.line_num} is no row of a table: {error}") from error


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FileFormatError(
                path, f"line {number} is no JSON ({error}): one object a line was expected"
            ) from error
        if not isinstance(row, dict):
            raise FileFormatError(path, f"line {number} is no JSON object: one object a line was expected")
        yield number, {str(name).lower(): value for name, value in row.items()}


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FileFormatError(path, "the table has more than 4 GB: split it")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FileFormatError(path, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(path, f"UTF-8 was expected, and byte {error.start} is none: save it as UTF-8") from error
