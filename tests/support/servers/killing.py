"""The command in a process of its own, which is killed without a warning when its requests come to a proxy."""

import asyncio
import random
import subprocess
import sys

from ..trip import ROOT
from .nasty_proxy import NastyProxy

_COMMAND = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_cvl_checkout", sys.argv[1] + "/headless/checkout.py")
checkout = importlib.util.module_from_spec(spec)
spec.loader.exec_module(checkout)
checkout.bind()
from clip_vae_lora.headless import command, server_options
from clip_vae_lora.tests.support.servers.fast import FAST
server_options.Timing = lambda: FAST
sys.exit(command.main(sys.argv[2:]))
"""


def start(*arguments: object) -> subprocess.Popen:
    """Start the command with these arguments."""
    command = [sys.executable, "-c", _COMMAND, str(ROOT), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed(killer: "Killer", times: int, *arguments: object) -> tuple[int, str, str]:
    """Start the command and kill it as often as this, then let it end; its exit code and what it then printed."""
    while killer.kills < times:
        process = start(*arguments)
        killer.aim(process)
        out, err = process.communicate()
        assert process.returncode == -9, f"ended before it was killed the {killer.kills + 1}. time: {err} {out}"
    process = start(*arguments)
    out, err = process.communicate()
    return process.returncode, out, err


class Killer:
    """Kills `process` about when the request of the number `at` comes to any of the proxies."""

    def __init__(self, seed: int):
        self.random, self.requests, self.at, self.process, self.kills = random.Random(seed), 0, None, None, 0

    def aim(self, process: subprocess.Popen) -> None:
        self.process, self.at = process, self.requests + self.random.randrange(4, 30)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.kills += 1


class Watched(NastyProxy):
    """Tells the killer of each request: it kills before that is handed on, before it is answered, in the middle of a
    download, or somewhat later.
    """

    def __init__(self, killer: Killer, *arguments, **faults):
        self.killer = killer
        super().__init__(*arguments, **faults)

    async def handle(self, request):
        self.killer.requests += 1
        when = None
        if self.killer.at is not None and self.killer.requests >= self.killer.at:
            self.killer.at, when = None, self.killer.random.choice(("before", "answered", "later"))
            when = {"/view": "half", "/ws": "later"}.get(request.path, when)  # a websocket is answered at its end
        if when == "before":
            self.killer.kill()
        elif when == "later":
            self.loop.call_later(self.killer.random.random() / 30, self.killer.kill)
        answer = await super().handle(request)
        if when == "answered":
            self.killer.kill()
        return await self.killed_half_way(request, answer) if when == "half" else answer

    async def killed_half_way(self, request, whole):
        """Kill when a part of a file has come down and the rest has not."""
        answer = self.web.StreamResponse(headers={"Content-Length": str(len(whole.body))})
        await answer.prepare(request)
        await answer.write(whole.body[: len(whole.body) // 2])
        self.loop.call_later(self.killer.random.random() / 10, self.killer.kill)
        while self.killer.process.poll() is None:
            await asyncio.sleep(0.005)
        return answer
