"""What a node shows: lines to read on the node, the same as JSON for programs, and its outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


def as_json(data: Mapping[str, object]) -> str:
    return _whole_characters(json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False))


def shown(lines: Sequence[str], data: Mapping[str, object], results: tuple, images: Sequence[dict] = ()) -> dict:
    """A node's answer. `ui.text` and `ui.cvl_report` reach `/history`; the canvas shows the text and the images."""
    return _answer(lines, as_json(data), results, images)


def reported(lines: Sequence[str], data: Mapping[str, object], results: tuple, images: Sequence[dict] = ()) -> dict:
    """The answer of a node whose last output, behind `results`, is the report as JSON; otherwise as `shown`."""
    report = as_json(data)
    return _answer(lines, report, (*results, report), images)


def _answer(lines: Sequence[str], report: str, results: tuple, images: Sequence[dict]) -> dict:
    ui: dict[str, list] = {"text": [_whole_characters("\n".join(lines))], "cvl_report": [report]}
    if images:
        ui["images"] = list(images)
    return {"ui": ui, "result": results}


def _whole_characters(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which no file and no socket takes."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
