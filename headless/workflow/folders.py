"""Where pictures come from and go to, in a run without ComfyUI and when talking to one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .graph import WorkflowError

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Folders:
    """`inputs` are searched in order; `chosen` are files that the user, not the workflow, named."""

    output: Path
    inputs: tuple[Path, ...] = ()
    chosen: Mapping[str, Path] = field(default_factory=dict)
    models: Path | None = None  # a ComfyUI models folder; None: the pack's own
    stage: Path | None = None  # what nodes save is kept here until it is all there

    @property
    def saving(self) -> Path:
        """Where nodes save pictures: the output folder, or the one from which they are put there when all is done."""
        return self.stage or self.output

    @property
    def temp(self) -> Path:
        """Previews, inside the output folder so that they are found."""
        return self.saving / "temp"

    def find(self, name: str) -> Path | None:
        """The picture of this name ("a.png", "sub/a.png", "a.png [output]"), or None; never outside the folders."""
        if name in self.chosen:
            return self.chosen[name]
        plain, places = name, self.inputs
        for mark, place in (("[output]", self.output), ("[temp]", self.temp), ("[input]", None)):
            if name.endswith(mark):
                plain, places = name[: -len(mark)].rstrip(), (place,) if place else self.inputs
        for place in places:
            path = inside(place, plain)
            if path is not None and os.path.isfile(path):  # False, not an error, for a name that is too long
                return path
        return None

    def names(self) -> list[str]:
        """What could be loaded: the pictures that lie in the input folders themselves."""
        found = {
            file.name
            for place in self.inputs
            if place.is_dir()
            for file in place.iterdir()
            if file.suffix.lower() in PICTURES and file.is_file()
        }
        return sorted(found)

    def saved(self, entry: Mapping[str, object]) -> Path:
        """The path of an entry of `ui.images`."""
        place = self.temp if entry.get("type") == "temp" else self.saving
        path = inside(place, os.path.join(str(entry.get("subfolder") or ""), str(entry.get("filename") or "")))
        if path is None or path == place:
            raise WorkflowError(f"a node names a picture outside its folder: {str(dict(entry))[:120]}")
        return path


def folders_of(workflow: Path | None, output: Path, given: Path | None = None, models: Path | None = None) -> Folders:
    """The folders of a run: files are searched in the given folder, beside the workflow, and in input/ there."""
    own = [] if workflow is None else [workflow.absolute().parent, workflow.absolute().parent / "input"]
    inputs = tuple(dict.fromkeys([*([given.absolute()] if given else []), *own]))
    return Folders(Path(os.path.abspath(output)), inputs, models=models)


def inside(folder: Path, name: str) -> Path | None:
    """folder/name, or None where that leads out of the folder (links followed)."""
    if not name or "\0" in name:
        return None
    try:
        root = folder.resolve()
        path = (root / name.replace("\\", "/")).resolve()
    except (OSError, RuntimeError):  # a link in a circle
        return None
    return path if path.is_relative_to(root) else None
