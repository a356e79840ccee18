"""What the server has on record of a job: in its queue, in its history, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .connection import Connection

MARK = "cvl_job"  # in extra_data: a name of our own, for servers that give jobs their own ids
_LATEST = 200  # entries of the history that are searched for it


@dataclass(frozen=True)
class Found:
    """A job as the server knows it."""

    job_id: str
    state: str  # "waiting", "running" or "done"
    entry: Mapping | None = None  # of the history


async def find(connection: Connection, job_id: str, mark: str | None = None) -> Found | None:
    """The job of this id (or with this mark), None when the server does not know it.

    The history is asked before and after the queue: a job that leaves the queue is in the history from that moment.
    """
    found = await done(connection, job_id)
    if found is None:
        found = next(iter(await queued(connection, job_id, mark)), None)
    if found is None:
        found = await done(connection, job_id)
    if found is None and mark is not None:
        found = await _marked_in_history(connection, mark)
    return found


async def done(connection: Connection, job_id: str) -> Found | None:
    """The job in the history, None while it is not there."""
    status, body = await connection.json("get", f"/history/{job_id}")
    entry = body.get(job_id) if status == 200 and isinstance(body, dict) else None
    return Found(job_id, "done", entry) if isinstance(entry, Mapping) else None


async def queued(connection: Connection, job_id: str, mark: str | None = None) -> list[Found]:
    """The job as often as it runs or waits, running first."""
    status, body = await connection.json("get", "/queue")
    if status != 200 or not isinstance(body, dict):
        return []
    return [
        Found(str(item[1]), state, None)
        for place, state in (("queue_running", "running"), ("queue_pending", "waiting"))
        for item in body.get(place) or ()
        if isinstance(item, list) and len(item) > 1 and (item[1] == job_id or mark is not None and _has(item, mark))
    ]


async def drop_twin(connection: Connection, job_id: str) -> None:
    """Take a second sending of a job out of the queue, which arrived after all; the first one stays."""
    if len(await queued(connection, job_id)) > 1:
        await connection.json("post", "/queue", json={"delete": [job_id]})


async def stop(connection: Connection, job_id: str) -> None:
    """Take the job out of the queue, or stop it if it is the one that runs; no other is touched."""
    status, body = await connection.json("post", f"/api/jobs/{job_id}/cancel")  # newer hosts do it in one step
    if status == 200 and isinstance(body, dict) and body.get("cancelled"):
        return
    await connection.json("post", "/queue", json={"delete": [job_id]})
    if any(found.state == "running" for found in await queued(connection, job_id)):
        await connection.json("post", "/interrupt", json={"prompt_id": job_id})


async def count(connection: Connection) -> int:
    """How many jobs run or wait on the server, everybody's."""
    _, body = await connection.json("get", "/prompt")
    info = body.get("exec_info") if isinstance(body, dict) else None
    return int(info.get("queue_remaining") or 0) if isinstance(info, Mapping) else 0


async def _marked_in_history(connection: Connection, mark: str) -> Found | None:
    status, body = await connection.json("get", "/history", params={"max_items": str(_LATEST)})
    entries = body if status == 200 and isinstance(body, dict) else {}
    return next(
        (
            Found(str(job_id), "done", entry)
            for job_id, entry in entries.items()
            if isinstance(entry, Mapping) and _has(entry.get("prompt"), mark)
        ),
        None,
    )


def _has(item: object, mark: str) -> bool:
    """Whether a queue's item, [number, id, prompt, extra_data, ...], carries the mark."""
    extra = item[3] if isinstance(item, list) and len(item) > 3 else None
    return isinstance(extra, Mapping) and extra.get(MARK) == mark
