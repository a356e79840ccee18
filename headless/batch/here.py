"""Jobs run in this process, one after the other. What a job saves is kept apart until the job is on record and then
put into the output folder, so that a job killed half-way leaves nothing there and one killed later is not run again.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...files.errors import FileFormatError
from ...files.images import next_path
from ..progress import Progress
from ..workflow.embedded import ready, run_here
from ..workflow.folders import Folders
from ..workflow.graph import NodeFailure, WorkflowError
from .record import DONE, FAILED, RAN, STAGE, Entry, Record
from .rows import refuse_bad
from .task import OnDone, Task, named

_NUMBERED = re.compile(r"(.+)_\d{5,}_(\.\w+)\Z")
_PLANNED = "planned"  # in a file's entry: the place it gets, noted before it is put there


def batch_here(
    document: Mapping,
    tasks: Sequence[Task],
    folders: Folders,
    progress: Progress,
    record: Record,
    notes: list[str],
    on_done: OnDone,
) -> None:
    """Run the tasks; what became of each is in the record.

    Raises:
        WorkflowError: before anything ran, with the row of each task that is wrong. FileFormatError: the disk refuses.
    """
    refuse_bad(named(tasks, [_wrong(document, task, folders, notes if task is tasks[0] else []) for task in tasks]))
    for task in tasks:
        stage = folders.output / STAGE / task.key
        entry = record.find(task.key)
        if entry is None or entry.state != RAN:
            shutil.rmtree(stage, ignore_errors=True)
            entry = _run(document, task, replace(folders, stage=stage), progress)
            record.write(task.key, entry)
        _put_in_place(task.key, entry, replace(folders, stage=stage), record)
        shutil.rmtree(stage, ignore_errors=True)
        on_done()


def _wrong(document: Mapping, task: Task, folders: Folders, notes: list[str]) -> Exception | None:
    try:
        ready(document, task.settings, folders, notes)
    except (WorkflowError, FileFormatError) as error:
        return error
    return None


def _run(document: Mapping, task: Task, folders: Folders, progress: Progress) -> Entry:
    begin = time.perf_counter()
    outputs: dict[str, dict] = {}
    error = ""
    try:
        for node, _, ui, _ in run_here(document, task.settings, folders, progress, []):
            outputs[node] = ui
    except (NodeFailure, WorkflowError) as failed:
        error = str(failed)
    seconds = round(time.perf_counter() - begin, 3)
    return Entry(RAN, task.settings, outputs=outputs, seconds=seconds, error=error)


def _put_in_place(key: str, entry: Entry, folders: Folders, record: Record) -> None:
    """Move what the job saved into the output folder, under names that are noted before they are taken."""
    files: list[str] = []
    for found in _files(entry.outputs):
        staged = folders.saved(found)
        while _PLANNED not in found or not _taken(staged, Path(str(found[_PLANNED]))):
            found[_PLANNED] = str(_free(staged, found, folders))
            record.write(key, entry)
        files.append(str(found[_PLANNED]))
    for found in _files(entry.outputs):
        found["filename"] = Path(str(found.pop(_PLANNED))).name
    record.write(key, replace(entry, state=FAILED if entry.error else DONE, files=tuple(files)))


def _files(outputs: Mapping[str, Mapping]) -> Iterator[dict]:
    for ui in outputs.values():
        for values in ui.values():
            for found in values if isinstance(values, (list, tuple)) else ():
                if isinstance(found, dict) and "filename" in found:
                    yield found


def _free(staged: Path, found: Mapping, folders: Folders) -> Path:
    """A name in the output folder that nobody has: the next number where the name has one."""
    place = replace(folders, stage=None).saved(found)
    place.parent.mkdir(parents=True, exist_ok=True)
    numbered = _NUMBERED.match(place.name)
    if numbered:
        return next_path(place.parent, numbered[1], numbered[2])
    number = 1
    free = place
    while os.path.lexists(free):
        number += 1
        free = place.with_name(f"{place.stem} ({number}){place.suffix}")
    return free


def _taken(staged: Path, final: Path) -> bool:
    """Put the file there; whether it is there now. False where another program has the name."""
    try:
        if not staged.exists():
            return True  # an earlier try has moved it
        try:
            os.link(staged, final)
        except FileExistsError:
            if not os.path.samefile(staged, final):
                return False
        except OSError:  # FAT and some network folders have no links
            if os.path.lexists(final) and final.stat().st_size:
                return False
            os.replace(staged, final)
        staged.unlink(missing_ok=True)
    except OSError as error:
        raise FileFormatError(final, f"cannot be written: {error.strerror or error}") from error
    return True
