"""The pack's routes in ComfyUI's server, which the canvas asks: POST /clip_vae_lora/..., JSON in, JSON out.

Pictures come by GET. They change nothing and read no path from the request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

import server
from comfy_execution.utils import get_executing_context

from ..interface import PictureRoute, Route

MOST_BYTES = 64_000
KEPT_S = 600  # how long a browser shows a picture again without asking
MEANWHILE = "clip_vae_lora.meanwhile"  # the kind of message that web/gallery_home.mjs listens for
Handler = Callable[[server.web.Request], Awaitable[server.web.Response]]


def serve(routes: Mapping[str, Route | PictureRoute]) -> None:
    """Each address once: a second copy of the pack under another folder name would keep the server from starting."""
    running = getattr(server.PromptServer, "instance", None)
    if running is None:
        return
    known = {getattr(route, "path", None) for route in running.routes}
    for address, route in routes.items():
        if address in known:
            continue
        if isinstance(route, PictureRoute):
            running.routes.get(address)(_picture_handler(route))
        else:
            running.routes.post(address)(_handler(route))


def tell(node: str, output: Mapping[str, list]) -> None:
    running, context = getattr(server.PromptServer, "instance", None), get_executing_context()
    if running is None:
        return
    told = {"node": node, "output": output, "prompt_id": context.prompt_id if context else None}
    running.send_sync(MEANWHILE, told, running.client_id)


def _handler(route: Route) -> Handler:
    async def handle(request: server.web.Request) -> server.web.Response:
        """413 and 400 carry {"error": a sentence}."""
        body = bytearray()
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > MOST_BYTES:
                most = f"the {MOST_BYTES // 1000} kB that are {route.done} while one writes"
                error = f"this {route.what} has more than {most}; the node takes it whole when it runs"
                return _response(413, json.dumps({"error": error}))
        # in a thread, so that nothing else that the server does waits for it
        return _response(*await asyncio.get_running_loop().run_in_executor(None, _answered, route, bytes(body)))

    return handle


def _picture_handler(route: PictureRoute) -> Handler:
    async def handle(request: server.web.Request) -> server.web.Response:
        """304 where the browser has it; 400 and 404 carry {"error": a sentence}."""
        asked = request.query.get("name", ""), request.headers.get("If-None-Match", "")
        status, body, mark = await asyncio.get_running_loop().run_in_executor(None, _pictured, route, *asked)
        if isinstance(body, str):
            return _response(status, body)
        headers = {"Cache-Control": f"private, max-age={KEPT_S}", "ETag": mark, "X-Content-Type-Options": "nosniff"}
        return server.web.Response(status=status, body=body, content_type="image/jpeg", headers=headers)

    return handle


def _pictured(route: PictureRoute, name: str, kept: str) -> tuple[int, bytes | str, str]:
    try:
        if (found := route.function(name)) is None:
            return 404, json.dumps({"error": "it has no preview"}), ""
        mark, make = found
        mark = f'"{mark}"'
        return (304, b"", mark) if kept == mark else (200, make(), mark)
    except ValueError as error:
        return 400, json.dumps({"error": str(error)}), ""


def _answered(route: Route, body: bytes) -> tuple[int, str]:
    try:
        question = json.loads(body)
    except (ValueError, RecursionError):
        return 400, json.dumps({"error": f"JSON was expected, but something else came; send {route.example}"})
    try:
        return 200, json.dumps(route.function(question))
    except ValueError as error:
        return 400, json.dumps({"error": str(error)})


def _response(status: int, text: str) -> server.web.Response:
    return server.web.Response(status=status, text=text, content_type="application/json")
