"""The client against a small fake of ComfyUI's server on the loopback: success, refusals, failure, loss, Ctrl-C."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import clip_vae_lora.headless.checkout as checkout
from clip_vae_lora.headless import command, server_options

from ..support.servers.fast import FAST

RUN = Path(checkout.__file__).with_name("run.py")

PROMPT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "cat.png"}},
    "2": {"class_type": "Sampler", "inputs": {"image": ["1", 0], "seed": 1, "text": "a"}, "_meta": {"title": "Mine"}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
}


@pytest.fixture
def go(tmp_path, capsys, monkeypatch):
    """go(url, *arguments) -> (exit code, stdout, stderr), with PROMPT and a cat.png beside it."""
    monkeypatch.setattr(server_options, "Timing", lambda: FAST)
    (tmp_path / "cat.png").write_bytes(b"local cat")

    def go(url, *arguments, document=PROMPT):
        (tmp_path / "w.json").write_text(json.dumps(document))
        code = command.main([str(tmp_path / "w.json"), "--server", url, "--output", str(tmp_path / "out"), *arguments])
        said = capsys.readouterr()
        if code:
            assert said.err.splitlines()[-1].startswith("error: ") and "Traceback" not in said.err
        return code, said.out, said.err

    return go


@pytest.mark.parametrize("ending", ["success", "old"])
def test_pictures_go_up_progress_is_shown_and_results_come_down(fake, go, tmp_path, ending):
    server = fake(ending)
    code, out, err = go(server.url, "--set", "Mine.seed=5", "--set", "Sampler.text=two\nlines")
    assert code == 0
    assert server.uploads == {"cat.png": (b"local cat", "", None)}  # and nothing on the server is overwritten
    assert server.sent["prompt"]["1"]["inputs"]["image"] == "cat (1).png"
    assert server.sent["prompt"]["2"]["inputs"] == {"image": ["1", 0], "seed": 5, "text": "two\nlines"}
    assert (tmp_path / "out" / "sub" / "x_00001_.png").read_bytes() == b"picture"
    assert (tmp_path / "out" / "temp" / "t.png").read_bytes() == b"preview"
    assert 'node 2 Sampler "Mine"\n  said on the way\n' in out and "x_00001_.png" in out
    assert 'node 2 Sampler "Mine": 4 of 4' in err


def test_json_from_a_server_has_the_same_form(fake, go, tmp_path):
    server = fake()
    code, out, _ = go(server.url, "--json")
    document = json.loads(out)
    assert code == 0 and set(document) == {"outputs", "images", "seconds"}
    assert document["outputs"]["3"]["images"][0] == server.saved
    assert document["images"][0] == str(tmp_path / "out" / "sub" / "x_00001_.png")


def test_another_picture_of_the_same_name_here_is_not_overwritten(fake, go, tmp_path):
    server = fake()
    for data in (b"picture", b"picture", b"new picture"):
        server.images["x_00001_.png"] = data
        assert go(server.url)[0] == 0
    saved = {file.name: file.read_bytes() for file in (tmp_path / "out" / "sub").iterdir()}
    assert saved == {"x_00001_.png": b"picture", "x_00001_ (2).png": b"new picture"}


def test_a_picture_that_is_not_here_is_left_to_the_server(fake, go):
    server = fake()
    assert go(server.url, "--set", "LoadImage.image=on_server.png")[0] == 0
    assert server.uploads == {} and server.sent["prompt"]["1"]["inputs"]["image"] == "on_server.png"


def test_a_picture_in_a_sub_folder_keeps_it_and_input_comes_first(fake, go, tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "dog.png").write_bytes(b"dog")
    server = fake()
    assert go(server.url, "--input", str(tmp_path / "in"), "--set", "1.image=sub/dog.png")[0] == 0
    assert server.uploads == {"dog.png": (b"dog", "sub", None)}
    assert server.sent["prompt"]["1"]["inputs"]["image"] == "sub/cat (1).png"


def test_a_picture_that_the_user_names_by_its_path_is_uploaded_under_its_name(fake, go, tmp_path_factory):
    away = tmp_path_factory.mktemp("away") / "dog.png"
    away.write_bytes(b"dog")
    server = fake()
    assert go(server.url, "--set", f"LoadImage.image={away}")[0] == 0
    assert server.uploads == {"dog.png": (b"dog", "", None)}
    assert server.sent["prompt"]["1"]["inputs"]["image"] == "cat (1).png"  # the name that the fake gives back


def test_a_workflow_cannot_upload_files_from_elsewhere(fake, go, tmp_path):
    secret = tmp_path.parent / "secret.png"
    secret.write_bytes(b"secret")
    server = fake()
    for name in (str(secret), "../secret.png"):
        document = {**PROMPT, "1": {"class_type": "LoadImage", "inputs": {"image": name}}}
        assert go(server.url, document=document)[0] == 0
    assert server.uploads == {}


def test_the_canvas_form_is_read_with_the_servers_own_classes(fake, go):
    server = fake()
    nodes = [
        {"id": 1, "type": "LoadImage", "inputs": [], "widgets_values": ["on_server.png", "image"]},
        {
            "id": 2,
            "type": "Sampler",
            "widgets_values": [7, "randomize", "hi"],
            "inputs": [{"name": "image", "type": "IMAGE", "link": 1}],
        },
        {
            "id": 3,
            "type": "SaveImage",
            "widgets_values": ["y"],
            "inputs": [{"name": "images", "type": "IMAGE", "link": 2}],
        },
        {"id": 4, "type": "Note", "widgets_values": ["x"]},
    ]
    document = {"version": 0.4, "nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]]}
    assert go(server.url, document=document)[0] == 0
    assert {node: found["inputs"] for node, found in server.sent["prompt"].items()} == {
        "1": {"image": "on_server.png"},
        "2": {"seed": 7, "text": "hi", "image": ["1", 0]},
        "3": {"filename_prefix": "y", "images": ["2", 0]},
    }
    assert server.sent["extra_data"]["extra_pnginfo"]["workflow"] == document


@pytest.mark.parametrize(
    "ending, code, said",
    [
        ("refused", 2, 'node 2 Sampler "Mine": Value 9 bigger than max of 3 (seed)'),
        ("no_outputs", 2, "Prompt has no outputs"),
        ("partly", 2, 'node 2 Sampler "Mine": Bad branch'),
        ("error", 1, 'node 2 Sampler "Mine" failed: RuntimeError: out of memory try less'),
        ("stopped", 130, "stopped on the server"),
        ("lost", 3, "no longer knows the job"),
        ("broken", 3, "HTTP 500"),
    ],
)
def test_every_bad_end_has_its_code_and_its_sentence(fake, go, tmp_path, ending, code, said):
    server = fake(ending)
    found, out, err = go(server.url)
    assert found == code and said in err and out == "" and not (tmp_path / "out").exists()
    assert ("/interrupt", {"prompt_id": server.sent["prompt_id"]}) in server.posts or ending != "partly"


def test_a_class_that_the_server_does_not_have_is_named(fake, go):
    code, _, err = go(fake().url, document={**PROMPT, "4": {"class_type": "No Such/Class", "inputs": {}}})
    assert code == 2 and "node 4 No Such/Class" in err


@pytest.mark.parametrize(
    "entry",
    [
        {"filename": "../../evil.png", "subfolder": "", "type": "output"},
        {"filename": "evil.png", "subfolder": "../..", "type": "output"},
        {"filename": "/tmp/evil.png", "subfolder": "", "type": "temp"},
    ],
)
def test_a_server_cannot_write_outside_the_output_folder(fake, go, tmp_path, entry):
    server = fake()
    server.saved = entry
    server.images[entry["filename"]] = b"evil"
    code, _, err = go(server.url)
    assert code == 2 and "outside its folder" in err and not list(tmp_path.rglob("evil*"))


def test_a_server_that_is_not_there(go):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        code, _, err = go(f"127.0.0.1:{taken.getsockname()[1]}")
    assert code == 3 and "no ComfyUI answers at http://127.0.0.1:" in err


def test_something_else_that_answers(fake, go):
    code, _, err = go(fake("no ComfyUI").url)
    assert code == 3 and "is no ComfyUI" in err


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://x:y", "http://[::1"])
def test_an_address_that_is_none(go, url):
    code, _, err = go(url)
    assert code == 2 and "is no address" in err


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_the_server_too_and_exits_130(fake, tmp_path, number):
    server = fake("endless")
    document = {**PROMPT, "1": {"class_type": "LoadImage", "inputs": {"image": "on_server.png"}}}
    (tmp_path / "w.json").write_text(json.dumps(document))
    process = subprocess.Popen(
        [sys.executable, str(RUN), str(tmp_path / "w.json"), "--server", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 600
    while not hasattr(server, "sent") and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130 and out == "" and err.splitlines()[-1].startswith("error: stopped")
    assert server.posts == [
        ("/queue", {"delete": [server.sent["prompt_id"]]}),
        ("/interrupt", {"prompt_id": server.sent["prompt_id"]}),
    ]
