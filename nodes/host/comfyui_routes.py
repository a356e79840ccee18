"""The pack's routes in ComfyUI's server, which the canvas asks: POST /clip_vae_lora/..., JSON in, JSON out.

They change nothing and read no path from the request. Importing this file registers them, if a server is there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import server

MOST_BYTES = 64_000
ROUTES = {  # route: what a question is about, and an example of one
    "/clip_vae_lora/tokens": ("prompt", "counted", '{"text": "a cat"}'),
    "/clip_vae_lora/loras": ("list", "checked", '{"text": "style : 0.8"}'),
    "/clip_vae_lora/lora_header": ("name", "looked up", '{"name": "style.safetensors"}'),
}
Handler = Callable[[server.web.Request], Awaitable[server.web.Response]]


def _handler(route: str) -> Handler:
    what, done, _ = ROUTES[route]

    async def handle(request: server.web.Request) -> server.web.Response:
        """413 and 400 carry {"error": a sentence}."""
        body = bytearray()
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > MOST_BYTES:
                return _response(413, json.dumps({"error": (
                    f"this {what} has more than the {MOST_BYTES // 1000} kB that are {done} while one writes; the node "
                    f"takes it whole when it runs"
                )}))  # fmt: skip
        # in a thread, so that nothing else that the server does waits for it
        return _response(*await asyncio.get_running_loop().run_in_executor(None, _answered, route, bytes(body)))

    return handle


def _answered(route: str, body: bytes) -> tuple[int, str]:
    from .. import lora_editor, prompt_count  # here: they import the host, which imports this file

    answers = dict(zip(ROUTES, (prompt_count.answer, lora_editor.check, lora_editor.header)))
    try:
        question = json.loads(body)
    except (ValueError, RecursionError):
        return 400, json.dumps({"error": f"JSON was expected, but something else came; send {ROUTES[route][2]}"})
    try:
        return 200, json.dumps(answers[route](question))
    except ValueError as error:
        return 400, json.dumps({"error": str(error)})


def _response(status: int, text: str) -> server.web.Response:
    return server.web.Response(status=status, text=text, content_type="application/json")


def _register() -> None:
    """Once: a second copy of the pack under another folder name would keep the server from starting."""
    running = getattr(server.PromptServer, "instance", None)
    if running is None:
        return
    known = {getattr(route, "path", None) for route in running.routes}
    for route in ROUTES:
        if route not in known:
            running.routes.post(route)(_handler(route))


_register()
