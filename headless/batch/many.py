"""Many jobs of one workflow: those that are on record as done are not done again, the others run, a table tells all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..progress import Progress
from ..remote.errors import Interrupted
from ..remote.remote import Server, cancellable
from ..workflow.folders import Folders
from ..workflow.graph import WorkflowError
from .record import DONE, FAILED, SENT, Entry, Record
from .rows import Row, job_key
from .table import job_document, table
from .task import JobsFailed, Task


@dataclass(frozen=True)
class Many:
    """A workflow, settings for all jobs, the rows, and where they run: in this process where `servers` is empty."""

    document: Mapping
    settings: tuple[str, ...]
    rows: Sequence[Row]
    folders: Folders
    servers: Sequence[Server] = ()
    ahead: int = 3
    gone: frozenset[str] = frozenset()  # addresses of servers that will not come back

    def tasks(self) -> list[Task]:
        """A task for each row; rows that say the same have the same key."""
        settings = [(row.where, (*self.settings, *row.settings)) for row in self.rows]
        return [Task(where, given, job_key(self.document, given)) for where, given in settings]


def run_many(
    many: Many,
    progress: Progress,
    notes: list[str],
    on_end: Callable[[list[Mapping], str], None] = lambda jobs, text: None,
) -> list[Mapping]:
    """Run what is not done yet; `on_end` gets the jobs and the table however the run ends, once it has begun.

    Raises:
        WorkflowError: before anything ran; names each bad row. JobsFailed: some failed. ServerError, FileFormatError,
            Interrupted: the same call goes on where this one ended.
    """
    record = Record(many.folders.output)
    try:
        record.clear_stage()
        tasks = many.tasks()
        once = list({task.key: task for task in tasks}.values())
        if len(once) < len(tasks):
            notes.append(f"{len(tasks) - len(once)} rows say the same as others, and their jobs are done once")
        before = {task.key for task in once if _is_done(record.find(task.key))}
        todo = [task for task in once if task.key not in before]
        for task in todo:
            entry = record.find(task.key)
            if entry is not None and entry.state == SENT and entry.server in many.gone:
                record.forget(task.key)
        refused = False
        try:
            if todo:
                _run(many, todo, progress, record, notes, len(once))
        except WorkflowError:
            refused = True  # nothing ran, and a table of that would hide why
            raise
        finally:
            progress.close()
            record.clear_stage()
            jobs: list[Mapping] = [
                job_document(row, record.find(task.key), task.key in before) for row, task in zip(many.rows, tasks)
            ]
            on_end(jobs, "" if refused else table(jobs))
        failed = Counter(job["state"] for job in jobs)[FAILED]
        if failed:
            raise JobsFailed(failed, len(jobs))
        return jobs
    finally:
        record.close()


def _is_done(entry: Entry | None) -> bool:
    return entry is not None and entry.state == DONE


def _run(many: Many, todo: list[Task], progress: Progress, record: Record, notes: list[str], count: int) -> None:
    done = count - len(todo)
    progress.node(f"{count} jobs" + (f", {done} of them done before" if done else ""))
    progress.step(done, count)

    def on_done() -> None:
        nonlocal done
        done += 1
        progress.step(done, count)

    if not many.servers:
        from .here import batch_here

        quiet = Progress(progress.stream, quiet=True)
        try:
            batch_here(many.document, todo, many.folders, quiet, record, notes, on_done)
        except KeyboardInterrupt as error:
            raise Interrupted("stopped; the same command goes on from here") from error
        return
    from .there import batch_there

    work = batch_there(many.servers, many.document, todo, many.folders, record, notes, on_done, many.ahead)
    try:
        asyncio.run(cancellable(work))
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        raise Interrupted("stopped, and the servers were told; the same command goes on from here") from error
