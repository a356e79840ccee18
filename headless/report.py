"""What a run prints: each node as soon as it is there, or one JSON document at the end, however the run ends."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path


class Report:
    """Collects what nodes show and says it on stdout; errors and notes go to stderr."""

    def __init__(self, *, as_json: bool):
        self.as_json = as_json
        self._ran = True
        self._begin = time.perf_counter()
        self._outputs: dict[str, Mapping] = {}
        self._images: list[str] = []
        self._jobs: list[Mapping] | None = None
        self._table = ""

    def node(self, node: str, name: str, ui: Mapping, paths: list[Path]) -> None:
        """A node has shown something and saved these files."""
        self._outputs[node] = ui
        self._images += [str(path) for path in paths]
        if not self.as_json:
            print("\n".join(_block(name, ui, paths)), flush=True)

    def api(self, prompt: Mapping) -> None:
        """Print a workflow in API format, in place of a run of it."""
        print(json.dumps(prompt, indent=2, ensure_ascii=False), flush=True)
        self._ran = False

    def jobs(self, jobs: list[Mapping], table: str) -> None:
        """A batch has ended: its jobs for programs, and as a table for people."""
        self._jobs, self._table = jobs, table

    def done(self) -> None:
        """The run has ended well."""
        if not self._ran:
            return
        if self.as_json:
            self._document()
        else:
            self._show_table()
            print(f"done in {self._seconds():.1f} s", flush=True)

    def failed(self, error: object, code: int) -> None:
        """The run has ended with an error, whose exit code this is; what was saved before is in the document, too."""
        if self.as_json:
            self._document(error=one_line(error), code=code)
        else:
            self._show_table()
        print(f"error: {one_line(error)}", file=sys.stderr)

    def _document(self, **more: object) -> None:
        shown = {"outputs": self._outputs, "images": self._images} if self._jobs is None else {"jobs": self._jobs}
        document = {**shown, "seconds": round(self._seconds(), 3)}
        print(json.dumps({**document, **more}, indent=2, ensure_ascii=False, default=str), flush=True)

    def _show_table(self) -> None:
        if self._table:
            print(self._table, flush=True)

    def _seconds(self) -> float:
        return time.perf_counter() - self._begin


def failed(error: object, code: int, as_json: bool, **document: object) -> int:
    """Print why a command without a run has failed, for programs as a document that has `document` too; returns the
    exit code.
    """
    if as_json:
        print(json.dumps({**document, "error": one_line(error), "code": code}, indent=2, ensure_ascii=False))
    print(f"error: {one_line(error)}", file=sys.stderr)
    return code


def one_line(text: object) -> str:
    """The text without line breaks, as every error and note is printed."""
    return " ".join(str(text).split())


def missing_package(error: ModuleNotFoundError) -> str:
    """The sentence for a Python package that is not installed."""
    return f"the Python package {error.name} is missing; run pip install {error.name}"


def _block(name: str, ui: Mapping, paths: list[Path]) -> list[str]:
    """A node's name, its texts, its files."""
    lines = [name]
    texts = ui.get("text") or ()
    for text in [texts] if isinstance(texts, str) else texts:
        lines += [f"  {line}" for line in str(text).splitlines()]
    return lines + [f"  {_near(path)}" for path in paths]


def _near(path: Path) -> str:
    """The path from here where that is shorter."""
    here = Path.cwd().resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
