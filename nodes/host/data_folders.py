"""Files of data in the output and the input folder, named as ComfyUI names them: "a.x" in the input folder,
"sub/a.x [output]" in the output folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_OUTPUT, _INPUT = " [output]", " [input]"


def names(output: Path, inputs: Sequence[Path], suffix: str) -> list[str]:
    """Those with this suffix: anywhere in the output folder, and in the input folders themselves; each sorted."""
    saved = []
    for folder, _, files in os.walk(output):
        saved += [Path(folder, file).relative_to(output).as_posix() for file in files if file.endswith(suffix)]
    given = {file.name for place in inputs if place.is_dir() for file in place.iterdir() if file.name.endswith(suffix)}
    return [name + _OUTPUT for name in sorted(saved)] + sorted(given)


def path(output: Path, inputs: Sequence[Path], name: str) -> Path:
    """Where a file of that name lies, links followed, never outside its folder. Raises FileNotFoundError."""
    places, plain = (output,) if name.endswith(_OUTPUT) else inputs, name.removesuffix(_OUTPUT).removesuffix(_INPUT)
    for place in places if "\0" not in name else ():
        found = (place / plain.replace("\\", "/")).resolve()
        if found.is_relative_to(place.resolve()) and found.is_file():
            return found
    where = "output" if name.endswith(_OUTPUT) else "input"
    raise FileNotFoundError(f"there is no {plain!r} in the {where} folder; put it there, or choose another file")


def entry(output: Path, saved: Path) -> dict[str, str]:
    """A file in the output folder as a node's `ui` tells it."""
    subfolder = saved.parent.relative_to(os.path.abspath(output)).as_posix()
    return {"filename": saved.name, "subfolder": "" if subfolder == "." else subfolder, "type": "output"}
