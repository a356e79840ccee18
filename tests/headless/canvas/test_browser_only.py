"""Nodes that the browser alone knows mean what they mean there, or are named."""

import pytest

from clip_vae_lora.headless.workflow.canvas import to_api
from clip_vae_lora.headless.workflow.graph import WorkflowError

from .building import SPECS, canvas, node


@pytest.mark.parametrize("setter, getter", [("SetNode", "GetNode"), ("easy setNode", "easy getNode")])
def test_what_is_got_is_what_feeds_the_set_of_that_name(setter, getter):
    nodes = [
        node(1, "Make"),
        node(2, setter, [("IMAGE", 1)], ["it"]),
        node(3, getter, (), ["it"]),
        node(4, "Preview", [("images", 2)]),
        node(5, setter, [("IMAGE", None)], ["other"]),
    ]
    prompt, notes = to_api(canvas(nodes, [(1, 1, 0, 2, 0), (2, 3, 0, 4, 0)]), SPECS.get)
    assert set(prompt) == {"1", "4"} and prompt["4"]["inputs"] == {"images": ["1", 0]} and notes == []
    nodes[2]["widgets_values"] = ["nobody"]
    with pytest.raises(WorkflowError, match="node 3 .* gets 'nobody', which no Set node"):
        to_api(canvas(nodes, [(1, 1, 0, 2, 0), (2, 3, 0, 4, 0)]), SPECS.get)


def test_a_reroute_of_another_pack_passes_on():
    nodes = [node(1, "Make"), node(2, "Reroute (rgthree)", [("", 1)]), node(3, "Preview", [("images", 2)])]
    prompt, _ = to_api(canvas(nodes, [(1, 1, 0, 2, 0), (2, 2, 0, 3, 0)]), SPECS.get)
    assert prompt["3"]["inputs"] == {"images": ["1", 0]}


def test_an_unknown_node_that_feeds_nothing_is_left_out_and_said():
    nodes = [node(1, "Make"), node(2, "Preview", [("images", 1)]), node(3, "Fast Muter (rgthree)", [("Make", 2)])]
    prompt, notes = to_api(canvas(nodes, [(1, 1, 0, 2, 0), (2, 1, 0, 3, 0)]), SPECS.get)
    assert set(prompt) == {"1", "2"} and "node 3 Fast Muter (rgthree) has no known class" in notes[0]


def test_an_unknown_node_is_named_where_nothing_else_would_come_out():
    nodes = [node(1, "Make"), node(3, "VHS_VideoCombine", [("images", 1)])]
    with pytest.raises(WorkflowError, match="not known here: node 3 VHS_VideoCombine"):
        to_api(canvas(nodes, [(1, 1, 0, 3, 0)]), SPECS.get)


def test_a_node_that_sends_to_whatever_is_free_is_refused():
    nodes = [node(1, "Make"), node(3, "Anything Everywhere", [("anything", 1)]), node(2, "Preview", [("images", None)])]
    with pytest.raises(WorkflowError, match="node 3 Anything Everywhere sends its input to whatever is free"):
        to_api(canvas(nodes, [(1, 1, 0, 3, 0)]), SPECS.get)


def test_workflows_of_other_programs_are_named():
    invoke = {"name": "x", "nodes": [{"id": "a", "type": "invocation", "data": {"type": "noise"}}], "edges": []}
    with pytest.raises(WorkflowError, match="InvokeAI"):
        to_api(invoke, SPECS.get)
