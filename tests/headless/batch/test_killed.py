"""A batch killed at random moments, by the operating system and without a warning: nothing is lost or done twice."""

import collections
import json
import random
import subprocess
import sys

import pytest

from ...support.servers.nasty_proxy import NastyProxy
from ...support.servers.queue_server import prompt_of
from ...support.trip import ROOT

ROWS, KILLS = 100, 20
COMMAND = """
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


def start(*arguments):
    command = [sys.executable, "-c", COMMAND, str(ROOT), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Killer:
    """Kills `process` about when the request of the number `at` comes to any of the proxies."""

    def __init__(self, seed):
        self.random, self.requests, self.at, self.process, self.kills = random.Random(seed), 0, None, None, 0

    def aim(self, process):
        self.process, self.at = process, self.requests + self.random.randrange(4, 30)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.kills += 1


class Watched(NastyProxy):
    """Tells the killer of each request: it kills before that is handed on, before it is answered, or somewhat later."""

    killer = None

    async def handle(self, request):
        self.killer.requests += 1
        when = None
        if self.killer.at is not None and self.killer.requests >= self.killer.at:
            self.killer.at, when = None, self.killer.random.choice(("before", "answered", "later"))
        if when == "before":
            self.killer.kill()
        elif when == "later":
            self.loop.call_later(self.killer.random.random() / 30, self.killer.kill)
        answer = await super().handle(request)
        if when == "answered":
            self.killer.kill()
        return answer


@pytest.mark.slow
def test_a_batch_on_servers_killed_twenty_times_loses_nothing_and_does_nothing_twice(web, queue_server, tmp_path):
    import aiohttp

    servers = [queue_server(job_s=0.01) for _ in range(2)]
    proxies = [Watched(web, aiohttp, server.url) for server in servers]
    killer = Watched.killer = Killer(1)
    (tmp_path / "w.json").write_text(json.dumps(prompt_of("a")))
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"1.text": f"row {row}"}) for row in range(ROWS)))
    arguments = [tmp_path / "w.json", "--batch", tmp_path / "rows.jsonl", "--output", tmp_path / "out", "--json"]
    arguments += [part for proxy in proxies for part in ("--server", proxy.url)]
    try:
        while killer.kills < KILLS:
            process = start(*arguments)
            killer.aim(process)
            out, err = process.communicate()
            assert process.returncode == -9, f"ended before it was killed: {out} {err}"
        process = start(*arguments)
        out, err = process.communicate()
    finally:
        for proxy in proxies:
            proxy.close()
    assert process.returncode == 0, err
    jobs = json.loads(out)["jobs"]
    assert [job["state"] for job in jobs] == ["done"] * ROWS and any(job["before"] for job in jobs)
    ran = sum((server.ran for server in servers), collections.Counter())
    assert len(ran) == ROWS and set(ran.values()) == {1}
    files = {name: data for server in servers for name, data in server.files.items()}
    there = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.png")}
    assert len(files) == ROWS and there == files
    assert sorted(path for job in jobs for path in job["files"]) == sorted(
        str(tmp_path / "out" / name) for name in files
    )
