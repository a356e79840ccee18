"""Jobs on a real ComfyUI through a proxy that cuts, stalls, drops, answers 502 and loses answers: none is lost, none is
run twice, and every file of the server's history is here.
"""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request

import pytest

from clip_vae_lora.headless.remote.client import Client
from clip_vae_lora.headless.remote.errors import Interrupted
from clip_vae_lora.headless.remote.timing import Timing

from ..support.servers.nasty_proxy import NastyProxy
from ..support.servers.serving import ROOT, served

TIMING = Timing(backoff_s=(0.05, 1.0), quiet_s=(0.3, 2.0), down_s=(0.1, 1.0), settle_s=(0, 0.3, 1.0, 2.0))
JOBS, CLIENTS = 200, 4


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    """The address of a ComfyUI."""
    with served(comfyui_path, tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture
def proxy(server):
    """proxy(**faults) -> a running NastyProxy before the server."""
    import aiohttp
    from aiohttp import web

    started = []

    def start(**faults):
        started.append(NastyProxy(web, aiohttp, server, **faults))
        return started[-1]

    yield start
    for one in started:
        one.close()


def picture(number: int, prefix: str) -> dict:
    """A picture that no other job makes, so that the server does not keep it from before."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 2, "color": number}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def history(server: str) -> dict:
    return json.load(urllib.request.urlopen(f"{server}/history", timeout=60))


@pytest.mark.slow
def test_no_job_of_200_is_lost_or_run_twice_on_the_way(server, proxy, tmp_path):
    nasty = proxy(cut_s=2.0, drop=0.2, busy=0.1, lose=0.1, break_off=0.1, stall=0.1, stall_s=0.3)

    async def one(number: int) -> dict[str, tuple]:
        found = {}
        async with Client(nasty.url, timing=TIMING) as client:
            for row in range(JOBS // CLIENTS):
                job = await client.submit(picture(number * 1000 + row, f"nasty/{number}"))
                saved = await client.save(await job.wait(), tmp_path)
                found[job.id] = tuple(one.path for one in saved)
        return found

    async def every() -> list[dict[str, tuple]]:
        return await asyncio.gather(*map(one, range(CLIENTS)))

    jobs = {job: paths for found in asyncio.run(every()) for job, paths in found.items()}
    assert all(nasty.done[fault] for fault in ("cut", "drop", "busy", "lose", "break_off", "stall")), nasty.done
    known = {job: entry for job, entry in history(server).items() if job in jobs}
    assert len(jobs) == len(known) == JOBS
    assert set(nasty.delivered.values()) == {1} and len(nasty.delivered) == JOBS
    for job, entry in known.items():
        assert entry["status"]["status_str"] == "success"
        names = [image["filename"] for image in entry["outputs"]["2"]["images"]]
        assert sorted(path.name for path in jobs[job]) == sorted(names) and len(names) == 2
    here = set(tmp_path.rglob("*.png"))
    assert here == {path for paths in jobs.values() for path in paths} and len(here) == 2 * JOBS


def test_runs_side_by_side_into_one_folder_lose_nothing(server, tmp_path):
    command = [sys.executable, str(ROOT / "headless" / "run.py")]
    environment = {key: value for key, value in os.environ.items() if key != "COMFYUI_PATH"}
    started = []
    for number in range(3):
        workflow = picture(900_000 + number, "race")
        workflow["1"]["inputs"]["batch_size"] = 60
        (tmp_path / f"{number}.json").write_text(json.dumps(workflow))
        arguments = [str(tmp_path / f"{number}.json"), "--output", str(tmp_path / "out")]
        arguments += [] if number == 0 else ["--server", server]  # one of them without the server, under the same names
        started.append(subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, env=environment))
    assert [one.wait() for one in started] == [0, 0, 0]
    assert len(list((tmp_path / "out").iterdir())) == 180


def slow(number: int, prefix: str) -> dict:
    """Many pictures, and then one more node, before which the host looks whether it was stopped."""
    workflow = picture(number, prefix)
    workflow["1"]["inputs"] |= {"width": 512, "height": 512, "batch_size": 100}
    workflow["3"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": f"{prefix}_again"}}
    return workflow


def test_a_job_is_taken_back_and_no_other(server):
    async def stopped() -> tuple[str, str, str]:
        async with Client(server, timing=TIMING) as client:
            begun = asyncio.Event()
            first = await client.submit(slow(800_001, "first"), on_progress=lambda step: begun.set())
            waiting = await client.submit(picture(800_002, "waiting"))
            last = await client.submit(picture(800_003, "last"))
            await waiting.interrupt()
            await begun.wait()
            await first.interrupt()
            with pytest.raises(Interrupted, match="stopped on the server"):
                await first.wait()
            await last.wait()
            await last.interrupt()  # it is over
            return first.id, waiting.id, last.id

    first, waiting, last = asyncio.run(stopped())
    known = history(server)
    assert known[first]["status"]["status_str"] == "error" and waiting not in known
    assert known[last]["status"]["status_str"] == "success"


@pytest.mark.parametrize("login", [401, 302, "page"])
def test_a_login_before_a_real_server_is_named_and_passed(server, proxy, login):
    nasty = proxy(login=login)

    async def run(headers: list[str]) -> dict:
        async with Client(nasty.url, headers=headers, timing=TIMING) as client:
            return await (await client.submit(picture(700_000, "login"))).wait()

    with pytest.raises(RuntimeError, match="wants a login"):
        asyncio.run(run([]))
    assert asyncio.run(run(["X-Key: abc"]))["2"]["images"]


def test_sound_goes_up_and_comes_back(server, tmp_path):
    import wave

    with wave.open(str(tmp_path / "tone.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    workflow = {
        "1": {"class_type": "LoadAudio", "inputs": {"audio": "tone.wav"}},
        "2": {"class_type": "SaveAudio", "inputs": {"audio": ["1", 0], "filename_prefix": "sound/tone"}},
    }
    (tmp_path / "w.json").write_text(json.dumps(workflow))
    command = [sys.executable, str(ROOT / "headless" / "run.py"), str(tmp_path / "w.json"), "--json"]
    environment = {key: value for key, value in os.environ.items() if key != "COMFYUI_PATH"}
    done = subprocess.run(
        [*command, "--server", server, "--output", str(tmp_path / "out")], capture_output=True, env=environment
    )
    assert done.returncode == 0, done.stderr.decode()
    (path,) = json.loads(done.stdout)["images"]
    assert path.endswith(".flac") and open(path, "rb").read(4) == b"fLaC"
