"""The pack's routes in ComfyUI's server, which the canvas asks: POST /clip_vae_lora/..., JSON in, JSON out.

They change nothing and read no path from the request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

import server

from ..interface import Route

MOST_BYTES = 64_000
Handler = Callable[[server.web.Request], Awaitable[server.web.Response]]


def serve(routes: Mapping[str, Route]) -> None:
    """Each address once: a second copy of the pack under another folder name would keep the server from starting."""
    running = getattr(server.PromptServer, "instance", None)
    if running is None:
        return
    known = {getattr(route, "path", None) for route in running.routes}
    for address, route in routes.items():
        if address not in known:
            running.routes.post(address)(_handler(route))


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
