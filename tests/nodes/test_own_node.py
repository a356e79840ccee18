"""A node of this test's own, by one row in the table of a file: registered, with a face, and run in a workflow."""

import importlib
import json

import pytest

from clip_vae_lora import nodes
from clip_vae_lora.headless import command
from clip_vae_lora.headless.workflow import embedded
from clip_vae_lora.nodes import image
from clip_vae_lora.nodes.reports import as_json, shown
from clip_vae_lora.tests.nodes.write_schema import all_breaks, faces, saved_faces


class CountPixels:
    CATEGORY = "CVL/image"
    DESCRIPTION = "Says how many pixels a picture has."
    SEARCH_ALIASES = ["size"]
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("report",)
    OUTPUT_TOOLTIPS = ("The number, as JSON.",)
    FUNCTION = "count"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE", {"tooltip": "The picture."})}}

    def count(self, image):
        data = {"pixels": image.shape[1] * image.shape[2]}
        return shown([f"{data['pixels']} pixels"], data, (as_json(data),))


@pytest.fixture
def own_node(monkeypatch):
    """The pack's nodes, imported anew with one row more, and at the end without it."""
    with monkeypatch.context() as changed:
        changed.setitem(image.NODES, "CVL_CountPixels", (CountPixels, "Count Pixels (CVL)"))
        yield importlib.reload(nodes)
    importlib.reload(nodes)


def test_its_row_registers_it_after_those_served_before_and_breaks_no_other(own_node):
    assert list(own_node.NODE_CLASS_MAPPINGS)[-1] == "CVL_CountPixels"
    assert own_node.NODE_DISPLAY_NAME_MAPPINGS["CVL_CountPixels"] == "Count Pixels (CVL)"
    assert faces()["CVL_CountPixels"]["inputs"] == [{"name": "image", "type": "IMAGE", "group": "required"}]
    assert all_breaks(saved_faces(), faces()) == {}


def test_it_runs_in_a_workflow(own_node, place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(embedded, "_tell_host", lambda folders, progress: None)  # the place is the fixture's
    workflow = {
        "1": {"class_type": "CVL_ExampleImage", "inputs": {"picture": "red circle"}},
        "2": {"class_type": "CVL_CountPixels", "inputs": {"image": ["1", 0]}},
    }
    path = tmp_path / "own.json"
    path.write_text(json.dumps(workflow))
    assert command.main([str(path), "--output", str(tmp_path), "--json"]) == 0
    report = json.loads(json.loads(capsys.readouterr().out)["outputs"]["2"]["cvl_report"][0])
    assert report["pixels"] > 0


def test_an_id_that_two_nodes_have_is_an_error():
    row = {"CVL_One": (CountPixels, "One (CVL)")}
    assert nodes.merge_tables([row, {"CVL_Two": (CountPixels, "Two (CVL)")}]).keys() == {"CVL_One", "CVL_Two"}
    with pytest.raises(ValueError, match="two are called CVL_One"):
        nodes.merge_tables([row, {"CVL_One": (CountPixels, "Two (CVL)")}])
