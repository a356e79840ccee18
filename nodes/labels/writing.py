"""What was learned, written down below the output folder: as JSON, as folders of the classes, or as tags."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from ...files.writing import whole_folder, write_whole
from ..host import OnStep
from ..reports import as_json
from .learning import Lesson

NOTHING, JSON, FOLDERS, TAGS = "nothing", "JSON", "folders", "tags"
WAYS = (NOTHING, JSON, FOLDERS, TAGS)
_NO_NAME = re.compile(r'[\\/:*?"<>|\x00-\x1f]|^\s*\.|[. ]$|^\s*$')


def write_answers(lesson: Lesson, way: str, new_path: Callable[[str], Path], on_step: OnStep) -> tuple[str, list[str]]:
    """Write the labels of all pictures that have one or are sure of one, whole or not at all; the path, and notes.

    folders: a copy of each picture in a folder named as its class. tags: a copy of each, and beside it a text of the
    same name with the class, as trainers read captions. `new_path` gives a free path for an ending.

    Raises:
        ValueError: a class cannot be the name of a folder. FileFormatError: the disk refused.
    """
    if way == NOTHING:
        return "", []
    sure = lesson.sure()
    if way == JSON:
        path = new_path(".json")
        text = answers_json(lesson)
        write_whole(path, lambda file: file.write(text.encode("utf-8")))
        return str(path), []
    if way == FOLDERS:
        for name in dict.fromkeys(name for _, name, _ in sure):
            if _NO_NAME.search(name):
                raise ValueError(
                    f"the class {name!r} cannot be the name of a folder, so nothing was written; write JSON or tags, "
                    "or call the class otherwise"
                )
    path = new_path(f".{way}")
    gone = []
    with whole_folder(path) as part:
        for done, (number, name, _) in enumerate(sure, 1):
            if not _copied(lesson.paths[number], part / name if way == FOLDERS else part, name if way == TAGS else ""):
                gone.append(lesson.names[number])
            on_step(done, len(sure))
    notes = [f"{gone[0]} is not there any more and was left out; index the folder again"] if gone else []
    return str(path), notes


def answers_json(lesson: Lesson) -> str:
    """The labels as JSON, as Learn Labels takes them at `picks` again."""
    sure = lesson.sure()
    given = {number for number, label in enumerate(lesson.labelling.labels) if label >= 0}
    return as_json(
        {
            "labels": {lesson.names[number]: name for number, name, _ in sure},
            "probabilities": {lesson.names[number]: round(share, 6) for number, _, share in sure},
            "given": [lesson.names[number] for number, _, _ in sure if number in given],
        }
    )


def _copied(source: Path, folder: Path, tag: str) -> bool:
    """Whether the picture was there and was copied, under a name that is free, with its tag beside it."""
    if not source.is_file():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    target, count = folder / source.name, 1
    while target.exists() or (tag and target.with_suffix(".txt").exists()):
        count += 1
        target = folder / f"{source.stem}_{count}{source.suffix}"
    shutil.copyfile(source, target)
    if tag:
        target.with_suffix(".txt").write_text(tag + "\n", encoding="utf-8")
    return True
