"""A server with ComfyUI's queue, a proxy before it that misbehaves, and the command against either."""

import json

import pytest

from clip_vae_lora.headless import command, server_options

from ...support.servers.fast import FAST
from ...support.servers.nasty_proxy import NastyProxy
from ...support.servers.queue_server import QueueServer, prompt_of


@pytest.fixture
def web():
    return pytest.importorskip("aiohttp.web", reason="the client of a ComfyUI server needs aiohttp")


@pytest.fixture
def queue_server(web):
    """queue_server(...) -> a running QueueServer."""
    started = []

    def start(**options):
        started.append(QueueServer(web, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def proxy(web, queue_server):
    """proxy(server, **faults) -> a running NastyProxy before the server."""
    import aiohttp

    started = []

    def start(server, **faults):
        started.append(NastyProxy(web, aiohttp, server.url, **faults))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def go(tmp_path, capsys, monkeypatch):
    """go(url, *arguments, document=...) -> (exit code, stdout, stderr); files go to tmp_path/out."""
    monkeypatch.setattr(server_options, "Timing", lambda: FAST)

    def go(url, *arguments, document=None):
        (tmp_path / "w.json").write_text(json.dumps(document or prompt_of("a")))
        code = command.main([str(tmp_path / "w.json"), "--server", url, "--output", str(tmp_path / "out"), *arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err and bool(code) == ("error: " in said.err)
        return code, said.out, said.err

    return go
