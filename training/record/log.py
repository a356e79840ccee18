"""What lies beside a training under way: its log, a plot of it, its plan, and a lock that keeps others out."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from ...drawing.course_plot import NOISE, course_plot
from ...files.errors import FileFormatError
from ...files.images import write_png
from ...files.writing import held_alone, write_whole
from ..distributed import current_group

TRAININGS = "cvl_training"  # the folder of trainings under way, below the output folder
STATE, LOG, PLAN, COURSE, LOCK = ".state.safetensors", ".log.jsonl", ".plan.toml", ".course.png", ".lock"


class Kept(Protocol):
    """A training that keeps files: where its state lies, without their endings, and whether it goes on from there."""

    @property
    def state(self) -> Path: ...

    @property
    def title(self) -> str: ...

    @property
    def resume(self) -> bool: ...


def title_of(prefix: str, otherwise: str) -> str:
    """What a training is called whose file's name begins like this, folders before it left out.

    >>> title_of("loras/cats", "lora"), title_of("loras/", "lora")
    ('cats', 'lora')
    """
    return prefix.replace("\\", "/").rpartition("/")[2] or otherwise


def beside(state: Path, ending: str) -> Path:
    """The file beside the state with this ending."""
    return state.with_name(state.name + ending)


@contextmanager
def alone(job: Kept) -> Iterator[None]:
    """Keep other trainings of this name out. Raises as `held_alone`; FileFormatError: the disk refuses."""
    _make_folder(job.state.parent)
    busy = f"another training of the name {job.title!r} is under way: wait for it, or choose another name"
    with held_alone(beside(job.state, LOCK), busy) if current_group().first else nullcontext():
        yield


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFormatError(folder, f"cannot be written: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode()), lasting=False)


class Log:
    """Lines of JSON and a plot of them, written whole: a run that goes on keeps the lines before it.

    names: of the validation's bands, for the plot.
    """

    def __init__(self, job: Kept, names: Sequence[str] = NOISE):
        self.job, self.names, path = job, names, beside(job.state, LOG)
        self.lines: list[dict] = _lines(path) if job.resume and path.is_file() else []

    def add(self, line: dict) -> None:
        """Take a line."""
        self.lines.append(line)

    def add_measured(self, step: int, bands: Sequence[float]) -> None:
        """Take a validation, and bring what there is so far to the disk."""
        self.add({"step": step, "validation": sum(bands) / len(bands), "bands": list(bands)})
        self._write_lines()

    def write(self) -> None:
        """Write the lines and the plot."""
        self._write_lines()
        losses = [line["loss"] for line in self.lines if "loss" in line]
        validation = [(line["step"], line["bands"]) for line in self.lines if "bands" in line]
        if losses or validation:
            plot = course_plot(losses, validation, self.job.title, names=self.names)
            write_png(beside(self.job.state, COURSE), plot[0], {}, preview=True)

    def _write_lines(self) -> None:
        write_text(beside(self.job.state, LOG), "".join(f"{json.dumps(line)}\n" for line in self.lines))


def _lines(path: Path) -> list[dict]:
    """What a log holds; of a line that is none, nothing."""
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        found += [line] if isinstance(line, dict) else []
    return found
