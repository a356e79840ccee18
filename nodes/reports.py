"""What a node shows: lines to read on the node, the same as JSON for programs, its outputs, and its errors.

ComfyUI shows the kind of an error before its sentence, with the module it comes from unless it is built in
(execution.py `full_type_name`, 0.33.0). Inside, errors have kinds of our own (`FileFormatError`), which say more to
code than to the person at the screen: at the edge of a node they become kinds that everybody knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import wraps

from .host import host

_WIDGETS = {"STRING", "INT", "FLOAT", "BOOLEAN", "COMBO", "*"}  # kinds of inputs whose values can be written down
_TENSORS = {"IMAGE", "MASK", "LATENT", "CONDITIONING"}  # whose values the nodes check themselves
_PLAIN = {"builtins", "torch", "numpy"}  # modules of types that are no model
_OURS = f"{__package__.rpartition('.')[0]}."


def as_json(data: Mapping[str, object]) -> str:
    return _whole_characters(json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False))


def shown(
    lines: Sequence[str],
    data: Mapping[str, object],
    results: tuple,
    images: Sequence[dict] = (),
    *,
    own: Sequence[str] = (),
    chart: Mapping[str, object] | None = None,
) -> dict:
    """A node's answer. `ui.text` and `ui.cvl_report` reach `/history`; the canvas shows the text and the images.

    own: parts of the lines that are the words of a file or of the user; the canvas never translates them. chart: what
    the canvas draws, where the report itself is too long for that.
    """
    answer = _answer(lines, as_json(data), results, images)
    if chart is not None:
        answer["ui"] |= as_chart(chart)
    if kept := [_whole_characters(text) for text in dict.fromkeys(own) if text]:
        answer["ui"]["cvl_own"] = kept
    return answer


def as_chart(chart: Mapping[str, object]) -> dict[str, list]:
    """What the canvas draws, as a node's `ui` has it."""
    return {"cvl_chart": [as_json(chart)]}


def reported(lines: Sequence[str], data: Mapping[str, object], results: tuple, images: Sequence[dict] = ()) -> dict:
    """The answer of a node whose last output, behind `results`, is the report as JSON; otherwise as `shown`."""
    report = as_json(data)
    return _answer(lines, report, (*results, report), images)


def problem_shown(problem: str, outputs: int, report_at: int) -> dict:
    """Answer for a node that only looks and has nothing to look at: the problem in red, and as JSON at the output
    `report_at`. What is connected to its other outputs does not run, and says why.
    """
    report = as_json({"state": "failed", "problem": problem})
    results = tuple(report if place == report_at else host.absent(problem) for place in range(outputs))
    return _answer([f"✖ {problem}"], report, results, ())


def _answer(lines: Sequence[str], report: str, results: tuple, images: Sequence[dict]) -> dict:
    ui: dict[str, list] = {"text": [_whole_characters("\n".join(lines))], "cvl_report": [report]}
    if images:
        ui["images"] = list(images)
    return {"ui": ui, "result": results}


def _whole_characters(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which no file and no socket takes."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def at_the_edge(node: type) -> type:
    """The node as it is registered: its function raises no kinds of our own. The class itself stays as it is."""
    function = getattr(node, node.FUNCTION)

    @wraps(function)
    def run(*given, **named):
        try:
            return function(*given, **named)
        except Exception as error:
            said = _literal_said(node, named)
            if not said and not isinstance(error, ValueError):
                said = _stranger_said(node, named)
            if said:
                raise ValueError(said) from error
            kind = known_kind(type(error))
            if kind is type(error):
                raise
            raise kind(str(error)).with_traceback(error.__traceback__) from error.__cause__

    return type(node.__name__, (node,), {"__module__": node.__module__, "__doc__": node.__doc__, node.FUNCTION: run})


def _literal_said(node: type, named: Mapping[str, object]) -> str:
    """What is wrong where an API client wrote a value for an input that takes a link alone, which ComfyUI lets pass."""
    for key, kind in _link_kinds(node).items():
        value = next((one for one in _values(node, named, key) if isinstance(one, str | int | float)), None)
        if value is not None:
            return (
                f"{key}: a link to a {kind} was expected, but the value {str(value)[:40]!r} came; link a node that "
                "gives one"
            )
    return ""


def _stranger_said(node: type, named: Mapping[str, object]) -> str:
    """What is wrong where another node gave nothing for a model, or a plain value: a file that has none, mostly."""
    required = getattr(node, "INPUT_TYPES", dict)().get("required", {})
    for key, kind in _link_kinds(node).items():
        if kind in _TENSORS:
            continue
        for value in _values(node, named, key):
            if value is None and key in required:
                return (
                    f"{key}: a {kind} was expected, but nothing came: the file before has none; load it from its own "
                    "file"
                )
            if value is not None and type(value).__module__.partition(".")[0] in _PLAIN:
                came = type(value).__name__
                return f"{key}: a {kind} was expected, but a value of type {came} came; link a node that gives one"
    return ""


def _values(node: type, named: Mapping[str, object], key: str) -> list:
    """What came for an input: one value, several where the node takes lists, none where nothing was said."""
    if key not in named:
        return []
    value = named[key]
    return value if getattr(node, "INPUT_IS_LIST", False) and isinstance(value, list) else [value]


def _link_kinds(node: type) -> dict[str, str]:
    """The inputs of a node that take links alone, with the types of these."""
    groups = getattr(node, "INPUT_TYPES", dict)()
    kinds = {key: spec[0] for group in ("required", "optional") for key, spec in groups.get(group, {}).items()}
    return {key: kind for key, kind in kinds.items() if isinstance(kind, str) and kind not in _WIDGETS}


def known_kind(kind: type[BaseException]) -> type[BaseException]:
    """The nearest kind, itself or one it is a kind of, that is not ours: ValueError, torch's OutOfMemoryError, ..."""
    return next(each for each in kind.__mro__ if not each.__module__.startswith(_OURS))
