"""The pack as a library: the same results as the command, with and without async, and nothing imported before use."""

import asyncio
import json
import subprocess
import sys

import pytest

from clip_vae_lora import headless
from clip_vae_lora.headless.workflow.graph import NodeFailure, WorkflowError

from ..support.servers.fast import FAST
from ..support.servers.queue_server import prompt_of
from ..support.trip import ROOT
from .remote.conftest import queue_server, web

__all__ = ["queue_server", "web"]
LIGHT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_cvl_checkout", sys.argv[1] + "/headless/checkout.py")
checkout = importlib.util.module_from_spec(spec)
spec.loader.exec_module(checkout)
checkout.bind()
import clip_vae_lora.headless
assert [name for name in sys.modules if name.startswith("clip_vae_lora.")] == ["clip_vae_lora.headless"]
from clip_vae_lora.headless import AsyncClient, Client, run, to_api
assert not {"torch", "numpy", "PIL"} & set(sys.modules)
assert callable(run) and dir(clip_vae_lora.headless)
"""


def test_importing_it_costs_nothing_and_talking_to_a_server_needs_no_torch():
    done = subprocess.run([sys.executable, "-c", LIGHT, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_on_a_server_gives_outputs_and_files(queue_server, tmp_path):
    server = queue_server()
    (tmp_path / "w.json").write_text(json.dumps(prompt_of("a")))
    result = headless.run(tmp_path / "w.json", {"1.count": 2}, server=server.url, output=tmp_path / "out")
    assert [path.name for path in result.files] == ["a_0.png", "a_1.png"] and all(
        path.is_file() for path in result.files
    )
    assert result.outputs["1"]["images"][1]["filename"] == "a_1.png"
    with pytest.raises(NodeFailure, match="no memory"):
        headless.run(prompt_of("fail"), server=server.url, output=tmp_path / "out")


def test_the_plain_client_does_what_the_async_one_does(queue_server, tmp_path):
    server = queue_server()
    with headless.Client(server.url, timing=FAST) as client:
        assert client.object_info("Save").output_node and client.object_info("Gone") is None
        assert client.to_api(prompt_of("a"), {"1.text": "b"})["1"]["inputs"]["text"] == "b"
        assert client.check(prompt_of("a"), {"1.text": "b"}).problems == ()
        job = client.submit(prompt_of("c"))
        assert job.wait()["1"]["images"] and [path.name for path in job.save(tmp_path)] == ["c_0.png"]
        assert client.run(prompt_of("a"), ["1.text=d"], output=tmp_path).files == (tmp_path / "d_0.png",)
        assert client.running_and_waiting() == 0
        with pytest.raises(WorkflowError, match="has no input"):
            client.run(prompt_of("a"), {"1.txet": "b"}, output=tmp_path)


def test_async_runs_go_side_by_side_over_one_connection(queue_server, tmp_path):
    server = queue_server()

    async def both():
        async with headless.AsyncClient(server.url, timing=FAST) as client:
            runs = [headless.run_async(prompt_of(text), client=client, output=tmp_path) for text in "ab"]
            return await asyncio.gather(*runs)

    assert [result.files for result in asyncio.run(both())] == [(tmp_path / "a_0.png",), (tmp_path / "b_0.png",)]


def test_a_batch_from_python_is_resumed_as_one_of_the_command(queue_server, tmp_path):
    server = queue_server()
    rows = [{"1.text": "a"}, {"1.text": "b", "1.count": 2}]
    jobs = headless.run_batch(prompt_of("x"), rows, servers=[server.url], output=tmp_path)
    assert [len(job["files"]) for job in jobs] == [1, 2]
    again = headless.run_batch(prompt_of("x"), rows, servers=[server.url], output=tmp_path)
    assert all(job["before"] for job in again) and sum(server.ran.values()) == 2


def test_names_that_are_not_there_are_no_attributes():
    assert not hasattr(headless, "nothing") and all(hasattr(headless, name) for name in headless.__all__)
