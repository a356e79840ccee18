"""A prompt handed to the server once, however often its answer is lost on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from ..workflow.graph import Prompt, WorkflowError, label
from . import records
from .connection import Connection
from .errors import ServerError, Unreachable
from .login import BUSY, Answer
from .timing import Patience


async def submit(
    connection: Connection, prompt: Prompt, workflow: Mapping | None, client_id: str, job_id: str
) -> tuple[str, bool]:
    """Queue the prompt under our own id; the id that the server gave it, and whether it was sent more than once.

    It is sent again only after looks into queue and history that did not find it, or when nobody answered at all.

    Raises:
        WorkflowError: the server finds it wrong. ServerError: it refuses, or does not answer.
    """
    extra: dict[str, object] = {records.MARK: job_id}
    if workflow is not None:
        extra["extra_pnginfo"] = {"workflow": workflow}
    body = {"prompt": prompt, "client_id": client_id, "prompt_id": job_id, "extra_data": extra}
    patience = Patience(connection.timing, connection.timing.retry_s)
    sent = 0
    while True:
        try:
            answer = await connection.json_once("post", "/prompt", json=body)
            error = _lost(connection, answer)
        except Unreachable as cut:
            answer, error = Answer(0, {}), cut
        if error is None:
            return await _taken(connection, prompt, answer), sent > 0
        if error.sent:
            sent += 1
            if found := await look(connection, job_id):
                return found, sent > 1
        error.sent = sent > 0
        await patience.pause(error, answer.wait_s)


def _lost(connection: Connection, answer: Answer) -> Unreachable | None:
    """The error for an answer that is not the server's own: what became of the prompt is open."""
    if answer.status not in BUSY:
        return None
    sentence = f"the server at {connection.address.url} does not take the workflow (HTTP {answer.status})"
    return Unreachable(sentence, sent=answer.status != 429)


async def look(connection: Connection, job_id: str) -> str | None:
    """The id under which the server has a prompt that may have been sent to it; None after some looks without it."""
    for pause_s in connection.timing.settle_s:
        await asyncio.sleep(pause_s)
        if found := await records.find(connection, job_id, job_id):
            return found.job_id
    return None


async def _taken(connection: Connection, prompt: Prompt, answer: Answer) -> str:
    try:
        body = json.loads(answer.text)
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    if answer.status == 400 or body.get("node_errors"):
        if body.get("prompt_id"):  # it took the part that it finds right
            await records.stop(connection, body["prompt_id"])
        raise WorkflowError(f"the server finds the workflow wrong: {_problems(prompt, body)}")
    if answer.status == 413:
        raise ServerError(
            f"the workflow is too big for the server at {connection.address.url} or the proxy before it (HTTP 413); "
            "the host's --max-upload-size, or the proxy's, says how big it may be"
        )
    if answer.status != 200 or "prompt_id" not in body:
        raise ServerError(f"the server at {connection.address.url} refused the workflow (HTTP {answer.status})")
    return str(body["prompt_id"])


def name(prompt: Prompt, node: str) -> str:
    """How messages name a node, one that the server has made itself included."""
    return label(prompt, node) if node in prompt else f"node {node}"


def _problems(prompt: Prompt, answer: Mapping) -> str:
    """The server's complaints, node by node."""
    errors = answer.get("node_errors")
    sentences = [
        f"{name(prompt, str(node))}: {_problem(problem)}"
        for node, found in (errors if isinstance(errors, Mapping) else {}).items()
        for problem in found.get("errors") or []
    ]
    error = answer.get("error") or {}
    return "; ".join(sentences) or (_problem(error) if isinstance(error, Mapping) else str(error))


def _problem(problem: Mapping) -> str:
    details = f" ({problem['details']})" if problem.get("details") else ""
    return f"{problem.get('message')}{details}"
