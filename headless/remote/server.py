"""A workflow sent to a running ComfyUI: pictures up, progress over the websocket, results down.

Routes and messages: ComfyUI 0.3.64 and 0.33.0, server.py and execution.py.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, urlsplit

from ..progress import Progress
from ..workflow.graph import NodeFailure, Prompt, Spec, WorkflowError, label, server_spec

_CONNECT_S = 10
_HISTORY_S = 10  # the server writes it shortly after it says that it is done


class ServerError(RuntimeError):
    """The server cannot be reached, refused, or went away."""


class Interrupted(Exception):
    """Somebody stopped the run."""


def server_url(text: str) -> str:
    """`http://host:port` without a slash at the end; the scheme may be missing."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        good = False
    if not good:
        raise WorkflowError(f"--server {text!r} is no address; expected one like http://127.0.0.1:8188")
    return url.rstrip("/")


class Client:
    """One conversation with a server; `async with Client(url) as client`."""

    def __init__(self, url: str):
        try:
            import aiohttp
        except ImportError as error:
            raise WorkflowError("--server needs aiohttp, which is not installed; run pip install aiohttp") from error
        self._aiohttp, self._url, self._id = aiohttp, url, uuid.uuid4().hex

    async def __aenter__(self) -> Client:
        limits = self._aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        self._http = self._aiohttp.ClientSession(timeout=limits)
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._http.close()

    async def object_info(self, name: str) -> Spec | None:
        """The spec of a class, None when the server does not have it."""
        status, body = await self._json("get", f"/object_info/{quote(name, safe='')}")
        if status == 404 or status == 200 and name not in body:
            return None
        if status != 200:
            raise ServerError(f"the server at {self._url} refused to describe {name} (HTTP {status})")
        return server_spec(body[name])

    async def upload(self, path: Path, subfolder: str) -> str:
        """Put a picture into the server's input folder, never over another one; the name it has there."""
        form = self._aiohttp.FormData({"type": "input", "subfolder": subfolder})
        form.add_field("image", path.read_bytes(), filename=path.name, content_type="application/octet-stream")
        status, body = await self._json("post", "/upload/image", data=form)
        if status != 200 or "name" not in body:
            raise ServerError(f"the server refused the picture {path.name} (HTTP {status})")
        return f"{body['subfolder']}/{body['name']}" if body.get("subfolder") else body["name"]

    async def run(self, prompt: Prompt, workflow: Mapping | None, progress: Progress) -> dict[str, dict]:
        """Queue, wait, and give node -> ui.

        Raises:
            WorkflowError: the server finds it wrong. NodeFailure: a node failed. Interrupted. ServerError.
        """
        queued = None
        try:
            # before the prompt is sent: a fast one is over before a later listener hears of it
            async with self._http.ws_connect(f"{self._url}/ws?clientId={self._id}", max_msg_size=0) as socket:
                queued = await self._queue(prompt, workflow)
                outputs = await self._listen(socket, queued, prompt, progress)
            return outputs | await self._history(queued)
        except asyncio.CancelledError:
            if queued is not None:
                await asyncio.shield(self._interrupt(queued))
            raise
        except (self._aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise self._unreachable(error) from error

    async def view(self, entry: Mapping) -> bytes:
        """The bytes of an entry of `ui.images`."""
        wanted = {key: str(entry.get(key) or "") for key in ("filename", "subfolder", "type")}
        try:
            async with self._http.get(f"{self._url}/view", params=wanted) as answer:
                if answer.status != 200:
                    raise ServerError(f"the server does not give {wanted['filename']} (HTTP {answer.status})")
                return await answer.read()
        except (self._aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise self._unreachable(error) from error

    async def _queue(self, prompt: Prompt, workflow: Mapping | None) -> str:
        body = {"prompt": prompt, "client_id": self._id, "prompt_id": str(uuid.uuid4())}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        status, answer = await self._json("post", "/prompt", json=body)
        if status == 400 or answer.get("node_errors"):
            if answer.get("prompt_id"):  # it took the part that it finds right
                await self._interrupt(answer["prompt_id"])
            raise WorkflowError(f"the server finds the workflow wrong: {_problems(prompt, answer)}")
        if status != 200 or "prompt_id" not in answer:
            raise ServerError(f"the server at {self._url} refused the workflow (HTTP {status})")
        return answer["prompt_id"]

    async def _listen(self, socket, queued: str, prompt: Prompt, progress: Progress) -> dict[str, dict]:
        """Follow the run to its end; the ui of the nodes that said so on the way."""
        outputs: dict[str, dict] = {}
        async for message in socket:
            if message.type is not self._aiohttp.WSMsgType.TEXT:
                continue
            event = json.loads(message.data)
            kind, data = event.get("type"), event.get("data") or {}
            if data.get("prompt_id") not in (queued, None) or kind != "progress" and "prompt_id" not in data:
                continue
            node = str(data.get("node") or data.get("node_id") or "")
            if kind == "execution_success" or kind == "executing" and data.get("node") is None:
                return outputs
            if kind == "executing":
                progress.node(_name(prompt, node))
            elif kind == "progress":
                progress.step(data.get("value") or 0, data.get("max") or 0)
            elif kind == "executed" and data.get("output"):
                outputs[node] = data["output"]
            elif kind == "execution_error" and data.get("exception_type") == "ExecutionBlocked":  # it goes on
                why = str(data.get("exception_message")).removeprefix("Execution Blocked: ")
                outputs[node] = {"text": [f"did not run: {why}"]}
            elif kind == "execution_error":
                raise NodeFailure(
                    f"{_name(prompt, node)} failed: {data.get('exception_type')}: {data.get('exception_message')}"
                )
            elif kind == "execution_interrupted":
                raise Interrupted("the run was stopped on the server")
        raise ServerError(f"the server at {self._url} closed the connection before the workflow was done")

    async def _history(self, queued: str) -> dict[str, dict]:
        """The outputs as the server keeps them (with those of nodes it did not have to run again)."""
        for _ in range(_HISTORY_S * 10):
            status, body = await self._json("get", f"/history/{queued}")
            if status == 200 and queued in body:
                return body[queued].get("outputs") or {}
            await asyncio.sleep(0.1)
        raise ServerError(f"the server at {self._url} is done but has no results in its history")

    async def _interrupt(self, queued: str) -> None:
        """Out of the queue if it waits there, stopped if it runs."""
        await self._json("post", "/queue", json={"delete": [queued]})
        await self._json("post", "/interrupt", json={"prompt_id": queued})

    async def _json(self, method: str, route: str, **arguments) -> tuple[int, dict]:
        try:
            async with self._http.request(method, self._url + route, **arguments) as answer:
                text = await answer.text()
                status = answer.status
        except (self._aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise self._unreachable(error) from error
        try:
            body = json.loads(text) if text else {}
        except ValueError as error:
            if status == 200:
                raise ServerError(f"what answers at {self._url} is no ComfyUI: {route} is not JSON") from error
            body = {}
        return status, body if isinstance(body, dict) else {}

    def _unreachable(self, error: BaseException) -> ServerError:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        return ServerError(f"no ComfyUI answers at {self._url} ({reason}); start it, or check the address")


def _name(prompt: Prompt, node: str) -> str:
    return label(prompt, node) if node in prompt else f"node {node}"


def _problems(prompt: Prompt, answer: Mapping) -> str:
    """The server's complaints, node by node."""
    sentences = []
    for node, found in (answer.get("node_errors") or {}).items():
        for problem in found.get("errors") or []:
            details = f" ({problem['details']})" if problem.get("details") else ""
            sentences.append(f"{_name(prompt, str(node))}: {problem.get('message')}{details}")
    error = answer.get("error") or {}
    if not sentences:
        details = f" ({error['details']})" if isinstance(error, Mapping) and error.get("details") else ""
        sentences.append(f"{error.get('message') if isinstance(error, Mapping) else error}{details}")
    return "; ".join(sentences)
