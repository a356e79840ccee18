"""A wire with nothing on it: the node after it does not run and says why, the next are silent, the rest runs."""

import json

import pytest

from clip_vae_lora.headless.workflow import embedded
from clip_vae_lora.headless.workflow.folders import Folders
from clip_vae_lora.headless.workflow.stock_nodes import stock_nodes
from clip_vae_lora.nodes.host.alone.absence import Absent

from .fake_nodes import FAKES


class Nothing:
    """Both kinds of output, a value and a list, with nothing on them, and a text."""

    RETURN_TYPES, FUNCTION, OUTPUT_IS_LIST = ("IMAGE", "STRING", "STRING"), "run", (False, True, False)
    why = "Nothing has no pictures"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"why": ("BOOLEAN", {"default": True})}}

    def run(self, why):
        return Absent(self.why if why else None), Absent(self.why if why else None), "text"


PROMPT = {
    "1": {"class_type": "Nothing", "inputs": {"why": True}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    "5": {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}},
    "6": {"class_type": "Join", "inputs": {"words": ["1", 1], "glue": "-"}},
    "7": {"class_type": "Split", "inputs": {"text": ["1", 1]}},
    "8": {"class_type": "Join", "inputs": {"words": ["7", 0], "glue": "-"}},
}
SAID = ["did not run: Nothing has no pictures"]


@pytest.fixture
def outputs(run, monkeypatch):
    """outputs(why) -> node: ui"""
    monkeypatch.setattr(
        embedded, "_classes", lambda folders: {**stock_nodes(Folders(folders.output)), **FAKES, "Nothing": Nothing}
    )

    def outputs(why):
        code, out, _ = run({**PROMPT, "1": {"class_type": "Nothing", "inputs": {"why": why}}}, "--json")
        assert code == 0
        return {node: ui.get("text") for node, ui in json.loads(out)["outputs"].items()}

    return outputs


def test_the_first_node_after_it_says_why_and_those_after_that_are_silent(outputs):
    assert outputs(True) == {"2": SAID, "4": SAID, "5": ["text"], "6": SAID, "7": SAID}


def test_without_a_reason_nothing_is_said(outputs):
    assert outputs(False) == {"5": ["text"]}


def test_a_node_that_a_server_has_blocked_is_no_failure(fake, run):
    server = fake("blocked")
    document = {
        "2": {"class_type": "Sampler", "inputs": {"image": ["1", 0], "seed": 1, "text": "a"}},
        "1": {"class_type": "LoadImage", "inputs": {"image": "on_server.png"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    }
    code, out, _ = run(document, "--json", "--server", server.url)
    assert code == 0 and json.loads(out)["outputs"]["2"]["text"] == SAID
