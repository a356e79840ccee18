"""Old group nodes are taken apart: ids of the front end, every value in its place, links to the members."""

import pytest

from clip_vae_lora.headless.workflow.canvas import class_names, to_api
from clip_vae_lora.headless.workflow.graph import WorkflowError

from .building import SPECS, canvas, node

TWICE = {
    "nodes": [
        node(0, "Scale", [("image", None)], ["nearest", 1, 2, "disabled"], index=0),
        node(0, "Scale", [("image", None)], ["area", 3, 4, "center"], index=1, title="Second"),
    ],
    "links": [[0, 0, 1, 0, 5, "IMAGE"]],
    "external": [[1, 0, "IMAGE"]],
}
VALUES = ["lanczos", 100, 101, "center", "nearest", 200, 201, "disabled"]


def grouped(values=VALUES, kind="workflow>Twice", mode=0, group=TWICE):
    nodes = [node(1, "Make"), node(3, kind, [("image", 1)], values, mode=mode), node(2, "Preview", [("images", 2)])]
    return canvas(nodes, [(1, 1, 0, 3, 0), (2, 3, 0, 2, 0)], extra={"groupNodes": {"Twice": group}})


@pytest.mark.parametrize("kind", ["workflow>Twice", "workflow/Twice"])
def test_a_group_becomes_its_members_with_the_values_of_the_group(kind):
    prompt, _ = to_api(grouped(kind=kind), SPECS.get)
    first = {"image": ["1", 0], "upscale_method": "lanczos", "width": 100, "height": 101, "crop": "center"}
    second = {"image": ["33:31", 0], "upscale_method": "nearest", "width": 200, "height": 201, "crop": "disabled"}
    assert prompt["33:31"]["inputs"] == first and prompt["33:32"]["inputs"] == second
    assert prompt["33:32"]["_meta"]["title"] == "Second" and prompt["2"]["inputs"] == {"images": ["33:32", 0]}


def test_values_that_the_group_does_not_keep_are_the_members_own():
    prompt, _ = to_api(grouped(["lanczos", 100]), SPECS.get)
    assert prompt["33:31"]["inputs"]["height"] == 2 and prompt["33:32"]["inputs"]["width"] == 3


@pytest.mark.parametrize("mode, fed", [(2, {}), (4, {"images": ["1", 0]})])
def test_a_muted_or_bypassed_group(mode, fed):
    prompt, _ = to_api(grouped(mode=mode), SPECS.get)
    assert set(prompt) == {"1", "2"} and prompt["2"]["inputs"] == fed


def test_a_converted_widget_and_a_primitive_inside():
    group = {
        "nodes": [
            node(0, "Scale", [("image", None), ("width", None, 1)], ["area", 3, 4, "center"], index=0),
            node(0, "PrimitiveNode", (), [33, "fixed"], ["INT"], index=1),
        ],
        "links": [[1, 0, 0, 1, 5, "INT"]],
        "external": [],
    }
    prompt, _ = to_api(grouped(["lanczos", 9, "disabled", 44, "fixed"], group=group), SPECS.get)
    found = {"image": ["1", 0], "upscale_method": "lanczos", "width": 44, "height": 9, "crop": "disabled"}
    assert prompt["33:31"]["inputs"] == found


def test_the_classes_inside_groups_are_asked_for():
    assert class_names(grouped()) == ["Make", "Preview", "Scale"]


def test_a_group_that_is_not_there_contains_itself_or_has_unknown_nodes_is_named():
    with pytest.raises(WorkflowError, match="group 'Once', which the workflow lacks"):
        to_api(grouped(kind="workflow>Once"), SPECS.get)
    with pytest.raises(WorkflowError, match="contains itself"):
        to_api(grouped(group={"nodes": [node(0, "workflow>Twice")], "links": []}), SPECS.get)
    with pytest.raises(WorkflowError, match="not known here: node 32:31 Nowhere"):
        to_api(grouped(group={"nodes": [node(0, "Nowhere")], "links": []}), SPECS.get)
