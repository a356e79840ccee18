"""The jobs of a batch: rows of `--set`s from a file, and a grid of values, each with the line that it comes from."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...files.documents import parse_json
from ...files.errors import FileFormatError
from ..workflow.graph import WorkflowError, is_canvas

_MOST_JOBS = 1_000_000
_MOST_NAMED = 20  # bad rows in one sentence
_NEW_LINE = re.compile(r"\r\n|\n|\r")  # and not the other ends of lines that Unicode has: JSON may hold them in a text
_SEPARATOR = re.compile(r"sep=([,;\t|])\r?\n", re.IGNORECASE)
_OBJECTS = re.compile(r"\s*\[\s*\{")
_QUOTED = re.compile(r'"[^"]*"')
_LOOKS = ("pos", "size", "order", "flags", "color", "bgcolor", "shape")  # of a node: how it stands on the canvas
_DOCUMENT = ("nodes", "links", "definitions", "version")


@dataclass(frozen=True)
class Row:
    """The settings of one job, `node.input=value` each, and where they were written."""

    where: str
    settings: tuple[str, ...]


def setting(name: str, value: object) -> str:
    """`node.input=value` of a name and a value of JSON: texts as they are, all else as JSON."""
    return f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def setting_texts(values: Mapping[str, object]) -> list[str]:
    """The settings of a row or a dict; null leaves the workflow's value."""
    return [setting(name, value) for name, value in values.items() if value is not None]


def read_rows(path: Path) -> list[Row]:
    """The rows of a file: JSON lines ({"node.input": value, ...} each) or a JSON list of such objects, or CSV whose
    first line names node.input.

    An empty cell of a CSV, and null, leave the workflow's value. Empty lines are passed over.

    Raises:
        FileFormatError: the file cannot be read. WorkflowError: all bad rows, each with its line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FileFormatError(path, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(path, "it is not UTF-8; save the table as CSV UTF-8") from error
    is_json = path.suffix.lower() in (".jsonl", ".ndjson", ".json") or text.lstrip()[:1] == "{"
    is_json = is_json or bool(_OBJECTS.match(text))
    wrong: list[str] = []
    rows = list((_json_rows if is_json else _csv_rows)(text, path.name, wrong))
    refuse_bad(wrong)
    if not rows:
        raise WorkflowError(f"{path.name} has no rows: expected JSON lines, or CSV with a first line of node.input")
    return rows


def refuse_bad(wrong: Sequence[str]) -> None:
    """Raise one WorkflowError for all bad rows, if there are any."""
    if wrong:
        more = f"; and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise WorkflowError("; ".join(wrong[:_MOST_NAMED]) + more)


def _json_rows(text: str, name: str, wrong: list[str]) -> Iterator[Row]:
    for where, found in _json_values(text, name, wrong):
        if not isinstance(found, Mapping):
            shown = json.dumps(found, ensure_ascii=False)[:40]
            wrong.append(f'{where}: expected an object such as {{"3.seed": 7}}, and this is {shown}')
            continue
        bad = [key for key in found if not _is_name(key)]
        if bad:
            wrong.append(f"{where}: {bad[0]!r} is no node.input, the node by id, title or class")
            continue
        yield Row(where, tuple(setting_texts(found)))


def _json_values(text: str, name: str, wrong: list[str]) -> Iterator[tuple[str, object]]:
    """The values of JSON lines, or of the one list or object that the whole text is, each with its place."""
    try:
        whole = parse_json(text)
    except ValueError:
        whole = None  # of several lines
    if isinstance(whole, Mapping):
        yield name, whole
        return
    if isinstance(whole, list) and any(isinstance(row, Mapping) for row in whole):
        yield from ((f"{name} row {number}", row) for number, row in enumerate(whole, 1))
        return
    for number, line in enumerate(_NEW_LINE.split(text), 1):
        if line.strip():
            try:
                yield f"{name} line {number}", parse_json(line)
            except ValueError as error:
                wrong.append(f"{name} line {number}: it is not valid JSON ({error})")


def _csv_rows(text: str, name: str, wrong: list[str]) -> Iterator[Row]:
    told = _SEPARATOR.match(text)  # the first line that Excel reads and some write
    text, line = (text[told.end() :], 2) if told else (text, 1)
    names_line = _QUOTED.sub("", _NEW_LINE.split(text.lstrip("\r\n"), maxsplit=1)[0])
    delimiter = told[1] if told else next((mark for mark in ",;\t" if mark in names_line), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    before = line - 1
    try:
        for cells in reader:
            where, line = f"{name} line {line}", before + reader.line_num + 1
            if not any(cells):
                continue
            if not names:
                names = [cell.strip() for cell in cells]
                bad = [cell for cell in names if not _is_name(cell)]
                twice = [cell for cell in names if names.count(cell) > 1]
                if bad or twice:
                    what = f"{bad[0]!r} is no node.input" if bad else f"{twice[0]!r} is there twice"
                    wrong.append(f"{where}: {what}; the first line names the inputs, such as 3.seed,Prompt.text")
                    return
            elif len(cells) > len(names):
                wrong.append(f"{where}: it has {len(cells)} cells and the first line names {len(names)} inputs")
            else:
                yield Row(where, tuple(setting(key, cell) for key, cell in zip(names, cells) if cell))
    except csv.Error as error:
        wrong.append(f"{name} line {before + reader.line_num}: it is no CSV ({error})")


def _is_name(name: str) -> bool:
    return "=" not in name and name.strip(".").count(".") > 0


def varied(rows: Iterable[Row], vary: Sequence[str]) -> list[Row]:
    """Every row with every combination of the values of `node.input=a,b,c`, the last one changing fastest.

    Values may be quoted as in CSV, or be a JSON list.

    Raises:
        WorkflowError: one names no input or no value, or there would be too many jobs.
    """
    axes = [_axis(text) for text in vary]
    rows = list(rows) or [Row("", ())]
    count = len(rows) * math.prod(len(axis) for axis in axes)
    if count > _MOST_JOBS:
        raise WorkflowError(f"that would be {count:,} jobs; {_MOST_JOBS:,} is the most, so vary less")
    return [
        Row(", ".join(filter(None, (row.where, " ".join(chosen)))), (*row.settings, *chosen))
        for row in rows
        for chosen in itertools.product(*axes)
    ]


def _axis(text: str) -> list[str]:
    name, equals, listed = text.partition("=")
    if not equals or not _is_name(name) or not listed.strip():
        raise WorkflowError(f"--vary {text!r}: expected node.input=a,b,c, the node by id, title or class")
    if listed.lstrip().startswith("["):
        try:
            found = parse_json(listed)
        except ValueError:
            found = None
        if isinstance(found, list) and found:
            return [setting(name, value) for value in found]
    try:
        (values,) = csv.reader([listed], strict=True)
    except (csv.Error, ValueError) as error:
        raise WorkflowError(f"--vary {text!r}: its values are no list a,b,c ({error})") from error
    return [setting(name, value) for value in values]


def job_key(document: Mapping, settings: Sequence[str]) -> str:
    """What makes two jobs the same: the workflow, however it is laid out on the canvas, and the settings."""
    told = json.dumps([_meaning(document), sorted(settings)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _meaning(document: Mapping) -> object:
    """A workflow without what only says how it looks."""
    if not is_canvas(document):
        return document
    kept = {name: document[name] for name in _DOCUMENT if name in document}
    extra = document.get("extra")
    kept["groups"] = extra.get("groupNodes") if isinstance(extra, Mapping) else None
    kept["nodes"] = [_without_looks(node) for node in document["nodes"]]
    return kept


def _without_looks(node: object) -> object:
    return {name: value for name, value in node.items() if name not in _LOOKS} if isinstance(node, Mapping) else node
