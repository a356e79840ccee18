"""Fixtures that run the command with small node classes, and a fake of ComfyUI's server."""

import json

import pytest
from PIL import Image

from clip_vae_lora.headless import command
from clip_vae_lora.headless.workflow import embedded
from clip_vae_lora.headless.workflow.folders import Folders
from clip_vae_lora.headless.workflow.stock_nodes import stock_nodes

from ..support.servers.fake_server import Fake
from .fake_nodes import FAKES


@pytest.fixture
def specs(tmp_path):
    """The specs of the stand-ins and the fakes."""
    return embedded.specs_of({**stock_nodes(Folders(tmp_path)), **FAKES})


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """run(document, *arguments) -> (exit code, stdout, stderr); pictures lie in and go to tmp_path."""
    monkeypatch.setattr(embedded, "_classes", lambda folders: {**stock_nodes(folders), **FAKES})
    monkeypatch.setattr(embedded, "_tell_host", lambda folders, progress: None)

    def run(document, *arguments):
        path = tmp_path / "w.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        code = command.main([str(path), "--output", str(tmp_path / "out"), *arguments])
        said = capsys.readouterr()
        if code:
            assert said.err.rstrip().splitlines()[-1].startswith("error: ")
            assert "Traceback" not in said.err
        return code, said.out, said.err

    Image.new("RGB", (6, 4), (255, 0, 0)).save(tmp_path / "cat.png")
    return run


@pytest.fixture
def prompt():
    """A picture made, saved and its text shown."""
    return {
        "1": {
            "class_type": "Colour",
            "_meta": {"title": "Paint"},
            "inputs": {"name": "red", "size": 4, "seed": 7, "text": "hi there"},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "sub/x"}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
    }


@pytest.fixture
def fake():
    """fake(ending) -> a running Fake."""
    web = pytest.importorskip("aiohttp.web", reason="the client of a ComfyUI server needs aiohttp")
    started = []

    def start(ending="success"):
        started.append(Fake(web, ending))
        return started[-1]

    yield start
    for one in started:
        one.close()
