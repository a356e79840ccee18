"""The route that counts tokens, on a real server: answers, limits, and that it does not stand in anybody's way."""

import json
import threading
import time
import urllib.error
import urllib.request

import pytest

from clip_vae_lora.tests.host.serving import ROOT, served

PROMPT = ("a (painting:1.2) of an old harbour at dawn, " * 50)[:2000]


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    with served(comfyui_path, tmp_path_factory.mktemp("server")) as address:
        yield address


def post(address: str, body: bytes, route: str = "/clip_vae_lora/tokens") -> tuple[int, dict]:
    request = urllib.request.Request(address + route, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def ask(address: str, **question) -> tuple[int, dict]:
    return post(address, json.dumps(question).encode())


@pytest.mark.parametrize("route", ["/clip_vae_lora/tokens", "/api/clip_vae_lora/tokens"])
def test_the_route_counts(server, route):
    status, found = post(server, b'{"text": "a (red:1.2) circle"}', route)
    assert (status, found["tokens"], found["limit"], found["notes"]) == (200, 3, 75, [])


def test_a_prompt_that_cannot_be_read_is_an_answer_too(server):
    status, found = ask(server, text="(cat:1e999)")
    assert status == 200 and "cat" in found["error"]


NONE = [b"", b"{", b"\xff\xfe", b"[" * 60_000, b'{"text": 7}', b'{"text": "a", "dialect": {}}']


@pytest.mark.parametrize("body", NONE, ids=range(len(NONE)))
def test_what_is_no_question_is_answered_400_with_a_sentence(server, body):
    status, found = post(server, body)
    assert status == 400 and "expected" in found["error"]


def test_a_body_beyond_the_limit_is_answered_413_with_a_sentence(server):
    status, found = ask(server, text="a" * 100_000)
    assert status == 413 and "64 kB" in found["error"]
    assert ask(server, text="a " * 31_000)[0] == 200


def test_reading_the_route_is_refused(server):
    with pytest.raises(urllib.error.HTTPError, match="40[45]"):
        urllib.request.urlopen(server + "/clip_vae_lora/tokens", timeout=20)


def test_a_prompt_of_2000_characters_is_counted_within_5_ms_warm(server):
    def seconds(body: bytes) -> float:
        start = time.perf_counter()
        assert post(server, body)[0] == 200
        return time.perf_counter() - start

    def best(text: str) -> float:
        body = json.dumps({"text": text, "pieces": True}).encode()
        return min(seconds(body) for _ in range(30))

    overhead = best("")  # connection, headers, thread: the same for every prompt
    assert best(PROMPT) - overhead < 0.005


def test_the_server_answers_others_while_it_counts_long_prompts(server):
    long = json.dumps({"text": "(a:1.1) [b] " * 5000, "dialect": "a1111", "pieces": True}).encode()
    done = threading.Event()

    def others():
        while not done.is_set():
            post(server, long)

    threads = [threading.Thread(target=others) for _ in range(4)]
    for thread in threads:
        thread.start()
    slowest = 0.0
    for _ in range(20):
        start = time.perf_counter()
        urllib.request.urlopen(server + "/prompt", timeout=20).read()
        slowest = max(slowest, time.perf_counter() - start)
    done.set()
    for thread in threads:
        thread.join()
    assert slowest < 1.0  # it shares the interpreter with four threads; in their queue it would wait for all they count


def test_the_route_is_registered_once_however_often_the_pack_is_there(comfyui_path, tmp_path):
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "custom_nodes" / "a_copy").symlink_to(ROOT)
    with served(comfyui_path, tmp_path) as address:
        assert ask(address, text="a cat")[1]["tokens"] == 2
