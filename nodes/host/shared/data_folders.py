"""Files of data in the output and the input folder, named as ComfyUI names them: "a.x" in the input folder,
"sub/a.x [output]" in the output folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_OUTPUT, _INPUT = " [output]", " [input]"
INDEXES = "cvl_index"  # below the output folder
EXAMPLES = "examples"  # the folder of pictures that come with the pack, by this name
EXAMPLES_FOLDER = Path(__file__).resolve().parents[3] / "example_workflows" / "input"
_INDEX_NAME = re.compile(r"\w[\w .-]{0,99}(?<![ .])")


@dataclass(frozen=True)
class Places:
    """Where pictures are searched, and the only places where: `inputs` in order, the first that has something wins."""

    output: Path
    inputs: tuple[Path, ...]
    temp: Path

    def pictures_folder(self, which: str, below: str, *, make: bool = False) -> Path:
        """The folder `below` the "output" or the "input" folder, or below the pack's own examples, links followed; ""
        is that folder itself.

        Raises:
            ValueError: it leads out, or the disk refuses it. FileNotFoundError: it is not there.
        """
        plain = below.strip().replace("\\", "/").strip("/") if not os.path.isabs(below.strip()) else below
        roots = {"output": (self.output,), EXAMPLES: (EXAMPLES_FOLDER,)}.get(which, self.inputs)
        for root in roots if not re.search("[\0\ud800-\udfff]", below) else ():
            try:
                found, top = (root / plain).resolve(), root.resolve()
            except (OSError, RuntimeError):  # a link in a circle
                continue
            if not found.is_relative_to(top):
                raise ValueError(
                    f"the subfolder {below!r} leads out of the {which} folder: only folders below it are indexed; "
                    "give one of those, without .. and without links that lead elsewhere"
                )
            try:
                if make:
                    found.mkdir(parents=True, exist_ok=True)
                if found.is_dir():
                    return found
            except OSError as error:  # read-only, a name too long, a file in the way
                raise ValueError(
                    f"the subfolder {below[:60]!r} of the {which} folder cannot be used: {error.strerror or error}; "
                    "give another one, or mend that"
                ) from error
        if not plain or plain == ".":
            raise FileNotFoundError(
                f"there is no {which} folder yet: ComfyUI makes it with the first picture that is saved there; save "
                "one, or choose the other folder"
            )
        raise FileNotFoundError(f"there is no folder {below[:200]!r} in the {which} folder; make it, or give another")

    def index_folder(self, name: str) -> Path:
        """Where the index of this name lies, or will.

        Raises:
            ValueError: that is no name.
        """
        if not _INDEX_NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot be the name of an index: letters, digits, spaces, _ - and . were expected, 100 at "
                "most; give another name"
            )
        folder = Path(os.path.abspath(self.output)) / INDEXES / name
        if not folder.resolve().is_relative_to(self.output.resolve()):
            raise ValueError(f"the index {name!r} is a link that leads out of the output folder; remove the link")
        return folder

    def index_names(self) -> list[str]:
        """The indexes there are."""
        return sorted(found.parent.name for found in (self.output / INDEXES).glob("*/index.sqlite"))

    def without_pictures(self) -> list[Path]:
        """Folders below these that hold nothing to index: the indexes themselves, and previews."""
        return [self.output / INDEXES, self.temp]

    def name_of(self, path: Path) -> str | None:
        """A picture as Load Image names it ("sub/a.png [output]", "a.png"); None where it lies elsewhere."""
        for root, mark in ((self.output, _OUTPUT), *((root, "") for root in self.inputs)):
            if path.is_relative_to(root.resolve()):
                return path.relative_to(root.resolve()).as_posix() + mark
        return None

    def entry_of(self, path: Path) -> dict[str, str] | None:
        """A picture as a node's `ui.images` tells it; None where it lies neither in the output nor an input folder."""
        name = self.name_of(path)
        if name is None:
            return None
        subfolder, _, filename = name.removesuffix(_OUTPUT).rpartition("/")
        return {"filename": filename, "subfolder": subfolder, "type": "output" if name.endswith(_OUTPUT) else "input"}


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
    for place in places if not re.search("[\0\ud800-\udfff]", name) else ():
        found = (place / plain.replace("\\", "/")).resolve()
        if found.is_relative_to(place.resolve()) and found.is_file():
            return found
    where = "output" if name.endswith(_OUTPUT) else "input"
    raise FileNotFoundError(f"there is no {plain!r} in the {where} folder; put it there, or choose another file")


def entry(output: Path, saved: Path) -> dict[str, str]:
    """A file in the output folder as a node's `ui` tells it."""
    subfolder = saved.parent.relative_to(os.path.abspath(output)).as_posix()
    return {"filename": saved.name, "subfolder": "" if subfolder == "." else subfolder, "type": "output"}
