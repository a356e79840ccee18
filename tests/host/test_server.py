"""The example workflows on a real ComfyUI server, sent by headless/run.py, beside the same run without a server."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from ..support.servers.serving import ROOT, served


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    """A ComfyUI on a free port, the pack in its custom_nodes under a folder name of its own; its address."""
    with served(comfyui_path, tmp_path_factory.mktemp("server")) as address:
        yield address


def run(workflow: str, output: Path, *more: str) -> dict:
    command = [sys.executable, str(ROOT / "headless" / "run.py"), str(ROOT / "example_workflows" / workflow)]
    environment = {key: value for key, value in os.environ.items() if key != "COMFYUI_PATH"}
    done = subprocess.run([*command, "--output", str(output), "--json", *more], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def reports(document: dict) -> dict[str, dict]:
    return {node: json.loads(ui["cvl_report"][0]) for node, ui in document["outputs"].items() if "cvl_report" in ui}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return reports(run("quickstart.json", tmp_path_factory.mktemp("here")))


@pytest.mark.parametrize("form", ["quickstart.json", "api/quickstart.json"])
def test_the_quickstart_gives_the_same_numbers_on_the_server_as_without_one(server, here, tmp_path, form):
    there = reports(run(form, tmp_path, "--server", server))
    if form == "quickstart.json":
        assert there.keys() == here.keys()
    else:  # the newer host says nothing of nodes whose result it still has from the run before
        there = here | there
    for node, apart in (("104", 0.02), ("108", 2e-6)):  # sampled from a model in 16 bits; printed with six digits
        for mine, theirs in zip(here[node]["pictures"], there[node]["pictures"]):
            assert mine["best"] == theirs["best"]
            for label, probability in mine["probabilities"].items():
                assert abs(probability - theirs["probabilities"][label]) <= apart
    assert here["106"] == there["106"]


def test_a_photograph_comes_back_from_the_server_as_without_one(server, tmp_path):
    here = reports(run("there_and_back.json", tmp_path / "here"))
    there = reports(run("there_and_back.json", tmp_path / "there", "--server", server))
    assert here["1906"]["psnr_db"] > 25 and abs(here["1906"]["psnr_db"] - there["1906"]["psnr_db"]) <= 0.001


def test_the_prompt_example_runs_on_the_server(server, tmp_path):
    there = reports(run("prompt_and_lora.json", tmp_path, "--server", server))
    assert there["806"]["tokens"] == {"l": [6]}  # a photo of a striped heart


def test_the_inpainting_example_gives_the_same_numbers_on_the_server_as_without_one(server, tmp_path):
    example = "api/inpaint_and_latents.json"
    picture = ["--set", "703.picture=blue star"]  # no run before had it, of whose nodes the newer host says nothing
    here = reports(run(example, tmp_path / "here", *picture))
    there = reports(run(example, tmp_path / "there", *picture, "--server", server))
    assert here.keys() == there.keys()
    assert here["709"]["masked"] == there["709"]["masked"]
    assert here["712"] == there["712"] and here["719"] == there["719"]
    assert abs(here["718"]["kl_nats"] / there["718"]["kl_nats"] - 1) <= 1e-4


def test_the_server_serves_help_pages_texts_and_templates(server):
    def get(path: str) -> bytes:
        return urllib.request.urlopen(server + path, timeout=20).read()

    info = json.loads(get("/object_info"))
    ours = {node: spec for node, spec in info.items() if node.startswith("CVL_")}
    assert len(ours) == len(list((ROOT / "web" / "docs").glob("CVL_*.md")))
    folder = next(iter(ours.values()))["python_module"].removeprefix("custom_nodes.")
    quoted = urllib.request.quote(folder)
    assert b"# Load VAE" in get(f"/extensions/{quoted}/docs/CVL_LoadVAE.md")
    assert b"registerExtension" in get(f"/extensions/{quoted}/report.js")
    assert "CVL_LoadVAE" in json.loads(get("/i18n"))["zh"]["nodeDefs"]
    assert "quickstart" in json.loads(get("/workflow_templates"))[folder]
