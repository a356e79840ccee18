"""The pack's one route in ComfyUI's server: POST /clip_vae_lora/tokens counts a prompt's tokens for the canvas.

It changes nothing and reads no path from the request. Importing this file registers it, if a server is there.
"""

from __future__ import annotations

import asyncio
import json

import server

ROUTE = "/clip_vae_lora/tokens"
MOST_BYTES = 64_000


async def count_tokens(request: server.web.Request) -> server.web.Response:
    """JSON in, JSON out. 413 and 400 carry {"error": a sentence}."""
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > MOST_BYTES:
            return _response(413, json.dumps({"error": (
                f"this prompt has more than the {MOST_BYTES // 1000} kB that are counted while one writes; the node "
                "takes it whole, and counts it, when it runs"
            )}))  # fmt: skip
    # in a thread, so that nothing else that the server does waits for it
    return _response(*await asyncio.get_running_loop().run_in_executor(None, _answered, bytes(body)))


def _answered(body: bytes) -> tuple[int, str]:
    from ..prompt_count import answer  # here: it imports the host, which imports this file

    try:
        question = json.loads(body)
    except (ValueError, RecursionError):
        return 400, json.dumps({"error": 'JSON was expected, but something else came; send {"text": "a cat"}'})
    try:
        return 200, json.dumps(answer(question))
    except ValueError as error:
        return 400, json.dumps({"error": str(error)})


def _response(status: int, text: str) -> server.web.Response:
    return server.web.Response(status=status, text=text, content_type="application/json")


def _register() -> None:
    """Once: a second copy of the pack under another folder name would keep the server from starting."""
    running = getattr(server.PromptServer, "instance", None)
    if running is not None and not any(getattr(route, "path", None) == ROUTE for route in running.routes):
        running.routes.post(ROUTE)(count_tokens)


_register()
