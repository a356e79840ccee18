"""The route that counts tokens, on a real server: answers, limits, and that it does not stand in anybody's way."""

import http.client
import json
import threading
import urllib.error
import urllib.request

import pytest

from clip_vae_lora.tests.support.servers.serving import ROOT, served


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


def test_the_server_answers_others_while_it_counts_a_long_prompt(server):
    """Told by what comes before what: if the server did nothing else while it counts, one answer at most (of a question
    that was before the prompt in its queue) could come between a prompt and its count.
    """
    body = json.dumps({"text": "(a:1.1) [b] " * 5000, "dialect": "a1111", "pieces": True}).encode()
    others = max(_answers_during(server, body) for _ in range(5))
    assert others >= 3


def _answers_during(address: str, body: bytes) -> int:
    """How many questions are asked and answered, one after the other, between a prompt's last byte and its count."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=600)
    connection.request("POST", "/clip_vae_lora/tokens", body, {"Content-Type": "application/json"})
    counted = threading.Event()

    def wait():
        connection.getresponse().read()
        counted.set()

    thread, answers = threading.Thread(target=wait), -1
    thread.start()
    while not counted.is_set():
        urllib.request.urlopen(address + "/prompt", timeout=600).read()
        answers += 1  # the last may have come behind the count
    thread.join()
    return answers


def test_the_route_is_registered_once_however_often_the_pack_is_there(comfyui_path, tmp_path):
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "custom_nodes" / "a_copy").symlink_to(ROOT)
    with served(comfyui_path, tmp_path) as address:
        assert ask(address, text="a cat")[1]["tokens"] == 2
