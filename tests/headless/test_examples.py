"""The example workflows: canvas file and API twin are one graph, and the quickstart does what the README says."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from clip_vae_lora.headless import command
from clip_vae_lora.headless.workflow.canvas import to_api
from clip_vae_lora.headless.workflow.embedded import specs_of
from clip_vae_lora.headless.workflow.folders import Folders
from clip_vae_lora.headless.workflow.stock_nodes import stock_nodes
from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS

EXAMPLES = Path(__file__).resolve().parents[2] / "example_workflows"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))


def test_every_workflow_has_its_twin():
    assert NAMES and NAMES == sorted(path.stem for path in (EXAMPLES / "api").glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_the_canvas_file_and_its_twin_are_the_same_graph(name, tmp_path):
    classes = {**stock_nodes(Folders(tmp_path)), **NODE_CLASS_MAPPINGS}
    canvas = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    twin = json.loads((EXAMPLES / "api" / f"{name}.json").read_text(encoding="utf-8"))
    made, notes = to_api(canvas, specs_of(classes))
    assert not notes
    assert {n: (v["class_type"], v["inputs"]) for n, v in made.items()} == {
        n: (v["class_type"], v["inputs"]) for n, v in twin.items()
    }


def test_every_node_of_the_pack_is_in_an_example():
    twins = [json.loads((EXAMPLES / "api" / f"{name}.json").read_text(encoding="utf-8")) for name in NAMES]
    assert set(NODE_CLASS_MAPPINGS) <= {node["class_type"] for twin in twins for node in twin.values()}


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """What both forms of the quickstart printed with --json."""
    documents = []
    for file in (EXAMPLES / "quickstart.json", EXAMPLES / "api" / "quickstart.json"):
        folder = tmp_path_factory.mktemp("output")
        with redirect_stdout(StringIO()) as printed:
            assert command.main([str(file), "--output", str(folder), "--json"]) == 0
        documents.append(json.loads(printed.getvalue()))
    return documents


def report(document, node):
    return json.loads(document["outputs"][node]["cvl_report"][0])


@pytest.mark.slow
def test_the_quickstart_recognises_the_picture(quickstart):
    (picture,) = report(quickstart[0], "3")["pictures"]
    assert picture["best"] == "red circle" and len(picture["probabilities"]) == 20


@pytest.mark.slow
def test_the_quickstarts_lora_changes_what_the_model_knows(quickstart):
    alone, with_lora = (report(quickstart[0], node)["pictures"][0]["probabilities"] for node in ("5", "7"))
    assert with_lora["striped heart"] > 0.9 and alone["striped heart"] < 0.6  # a coin toss without it
    assert report(quickstart[0], "6")["applied"] == report(quickstart[0], "6")["modules"]


@pytest.mark.slow
def test_the_quickstart_brings_the_photograph_back(quickstart):
    assert report(quickstart[0], "12")["psnr_db"] > 20
    assert all(Path(image).is_file() for image in quickstart[0]["images"])


@pytest.mark.slow
def test_both_forms_give_the_same_numbers(quickstart):
    for node in ("3", "5", "6", "7", "10", "12"):
        assert report(quickstart[0], node) == report(quickstart[1], node)


@pytest.mark.slow
def test_the_zero_shot_example_finds_one_label_of_a_hundred(tmp_path):
    with redirect_stdout(StringIO()) as printed:
        assert command.main([str(EXAMPLES / "api" / "zero_shot.json"), "--output", str(tmp_path), "--json"]) == 0
    found = report(json.loads(printed.getvalue()), "3")
    (picture,) = found["pictures"]
    assert found["label_count"] == 100 and len(picture["top"]) == 5
    assert picture["best"] == "blue star" and picture["probabilities"]["blue star"] > 0.9
    assert len(list(tmp_path.glob("cvl/zero_shot_table*.png"))) == 1
