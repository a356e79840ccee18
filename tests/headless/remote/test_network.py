"""Jobs through a network that cuts, drops, stalls and loses: each is done once, and its files come down."""

import asyncio
import json
from dataclasses import replace

import pytest

from clip_vae_lora.headless.remote.client import Client
from clip_vae_lora.headless.remote.errors import JobLost, Unreachable
from clip_vae_lora.headless.workflow.graph import NodeFailure

from ...support.servers.fast import FAST
from ...support.servers.queue_server import prompt_of

NASTY = {"cut_s": 0.3, "drop": 0.3, "busy": 0.15, "lose": 0.2, "break_off": 0.2, "stall": 0.1}


async def done(url, text, folder, count=1, timing=FAST):
    async with Client(url, timing=timing) as client:
        job = await client.submit(prompt_of(text, count))
        return await client.save(await job.wait(), folder)


def test_no_job_of_many_is_lost_or_run_twice(queue_server, proxy, tmp_path):
    server = queue_server(job_s=0.002)
    before = proxy(server, **NASTY)

    async def runner(number):
        async with Client(before.url, timing=FAST) as client:
            jobs = [await client.submit(prompt_of(f"{number}-{row}", 2)) for row in range(15)]
            waited = await asyncio.gather(*(job.wait() for job in jobs))
            return [await client.save(outputs, tmp_path) for outputs in waited]

    async def all_runners():
        return await asyncio.gather(*(runner(number) for number in range(4)))

    asyncio.run(all_runners())
    assert all(before.done[fault] for fault in ("cut", "drop", "busy", "lose", "break_off", "stall"))
    assert len(server.ran) == 60 and set(server.ran.values()) == {1} and set(before.delivered.values()) == {1}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == server.files and len(server.files) == 120


@pytest.mark.parametrize("faults", [{"cut_s": 0.05}, {"silent_s": 0.05}, {"drop": 1.0}, {"stall": 1.0, "cut_s": 0.2}])
def test_a_job_is_done_though_its_websocket_is_not(queue_server, proxy, go, tmp_path, faults):
    server = queue_server(job_s=0.4)
    code, out, _ = go(proxy(server, **faults).url)
    assert code == 0 and "a_0.png" in out
    assert (tmp_path / "out" / "a_0.png").read_bytes() == server.files["a_0.png"]


@pytest.mark.parametrize("keeps_ids", [True, False])
def test_a_prompt_whose_answer_is_lost_is_found_and_not_sent_again(queue_server, proxy, tmp_path, keeps_ids):
    server = queue_server(keeps_ids=keeps_ids)
    before = proxy(server, lose=1.0)
    (saved,) = asyncio.run(done(before.url, "a", tmp_path))
    assert saved.path.read_bytes() == server.files["a_0.png"]
    assert sum(before.delivered.values()) == 1 and sum(server.ran.values()) == 1


def test_a_prompt_that_arrives_after_it_was_thought_lost_is_taken_out_again(queue_server, proxy, tmp_path):
    server = queue_server(job_s=1.5)
    before = proxy(server, lose=1.0, late=0.7)
    timing = replace(FAST, settle_s=(0, 0.05))

    async def twice():
        async with Client(before.url, timing=timing) as client:
            task = asyncio.ensure_future(client.submit(prompt_of("a")))
            while not before.done["lose"]:
                await asyncio.sleep(0.01)
            before.set(lose=0.0)
            job = await task
            await job.wait()
            return job

    assert asyncio.run(twice()).sent_again
    assert sum(before.delivered.values()) == 2 and sum(server.ran.values()) == 1


def test_a_busy_server_is_tried_again_and_then_given_up(queue_server, proxy, tmp_path):
    server = queue_server()
    before = proxy(server, busy=1.0)
    with pytest.raises(Unreachable, match="cannot answer now .HTTP 50[23]"):
        asyncio.run(done(before.url, "a", tmp_path))
    before.set(busy=0.0, next_busy=[502, 503, 504, 429])
    assert len(asyncio.run(done(before.url, "a", tmp_path))) == 1


def test_a_job_that_the_server_forgets_is_called_lost(queue_server, tmp_path):
    server = queue_server(job_s=60)

    async def forgotten():
        async with Client(server.url, timing=FAST) as client:
            job = await client.submit(prompt_of("a"))
            server.running, server.pending = [], []
            await job.wait()

    with pytest.raises(JobLost, match="no longer knows"):
        asyncio.run(forgotten())


def test_a_history_that_somebody_clears_loses_nothing_that_was_heard(queue_server, tmp_path):
    server = queue_server(job_s=0.1)

    class Forgetful(dict):
        def __setitem__(self, key, value):
            pass

    server.history = Forgetful()

    async def heard():
        async with Client(server.url, timing=FAST) as client:
            job = await client.submit(prompt_of("a"))
            job.hear("executed", {"node": "1", "output": {"text": ["here"]}})
            return await job.wait()

    assert asyncio.run(heard()) == {"1": {"text": ["here"]}}


def test_a_job_that_takes_too_long_is_stopped(queue_server, go):
    server = queue_server(job_s=30)
    code, _, err = go(server.url, "--timeout", "0.3")
    assert code == 3 and "not done after 0.3 s, and was stopped on the server" in err
    assert [path for path, _ in server.posts] == ["/queue", "/interrupt"]


def test_only_our_own_job_is_stopped(queue_server):
    server = queue_server(job_s=2)

    async def stopped():
        async with Client(server.url, timing=FAST) as ours, Client(server.url, timing=FAST) as theirs:
            first = await theirs.submit(prompt_of("theirs"))
            second = await ours.submit(prompt_of("ours"))
            await second.interrupt()
            with pytest.raises(JobLost):
                await second.wait()
            await first.wait()
            await first.interrupt()  # it is over: nothing to stop
            return first.id

    theirs = asyncio.run(stopped())
    assert dict(server.ran) == {theirs: 1}
    assert all(path == "/queue" for path, _ in server.posts)  # and never /interrupt


def test_a_submission_that_is_cancelled_on_its_way_is_taken_back(queue_server, proxy):
    server = queue_server(job_s=30)
    before = proxy(server)

    async def cancelled():
        async with Client(before.url, timing=FAST) as client:
            before.set(stall=1.0, stall_s=0.3)
            task = asyncio.ensure_future(client.submit(prompt_of("a")))
            await asyncio.sleep(0.15)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())
    assert server.interrupted and ("/queue", {"delete": list(server.ran)}) in server.posts


def test_what_a_failed_job_saved_is_fetched_and_named_and_the_document_is_one(queue_server, go, tmp_path):
    server = queue_server()
    code, out, err = go(server.url, document=prompt_of("fail", 2))
    assert code == 1 and "fail_1.png" in out and "node 1 Save failed: RuntimeError: no memory" in err
    code, out, _ = go(server.url, "--json", document=prompt_of("fail", 2))
    document = json.loads(out)
    assert code == document["code"] == 1 and "no memory" in document["error"] and len(document["images"]) == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"fail_0.png", "fail_1.png"}


def test_every_error_is_one_document_too(queue_server, go, tmp_path, monkeypatch):
    for arguments, wanted in ((["--nope"], 2), (["--timeout", "x"], 2), (["--output", "/proc/nope"], 2)):
        code, out, _ = go("http://127.0.0.1:9", "--json", *arguments)
        assert code == wanted == json.loads(out)["code"]
    code, out, _ = go("http://127.0.0.1:9", "--json", "--retry", "0")
    assert code == 3 == json.loads(out)["code"]


def test_a_failure_says_which_node_when_only_the_history_tells(queue_server, proxy):
    before = proxy(queue_server(job_s=0.2), drop=1.0)

    async def failed():
        async with Client(before.url, timing=FAST) as client:
            job = await client.submit(prompt_of("fail", 1))
            with pytest.raises(NodeFailure, match="node 1 Save failed: RuntimeError: no memory"):
                await job.wait()
            return job.outputs

    assert asyncio.run(failed())["1"]["images"]


def test_a_client_keeps_nothing_of_jobs_that_are_done(queue_server):
    server = queue_server()

    async def many():
        async with Client(server.url, timing=FAST) as client:
            for number in range(20):
                await (await client.submit(prompt_of(str(number)))).wait()
            return client._jobs

    assert asyncio.run(many()) == {}
