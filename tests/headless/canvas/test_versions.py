"""Where front ends differ: an older server's version decides on ids, and what it would send otherwise is said."""

import pytest

from clip_vae_lora.headless.workflow.canvas import front_end_of, to_api

from .building import SPECS, canvas, node, subgraph, using
from .test_groups import grouped

OLD, NEW = (1, 27, 10), (1, 49, 6)


def sent(document, version):
    return to_api(document, SPECS.get, front_end=version)


def test_ids_inside_subgraphs_are_made_unique_only_where_the_front_end_does_so():
    def doubled(own):
        nodes = [node(10, "Invert", [("image", 1)])]
        return subgraph(own, nodes, [(1, -10, 0, 10, 0), (2, 10, 0, -20, 0)], [("image", [1])], [("IMAGE", [2])])

    nodes = [
        node(1, "Make", (), [1, 1]),
        node(3, "one", [("image", 1)]),
        node(4, "two", [("image", 2)]),
        node(2, "Preview", [("images", 3)]),
    ]
    links = [(1, 1, 0, 3, 0), (2, 3, 0, 4, 0), (3, 4, 0, 2, 0)]
    document = canvas(nodes, links, definitions={"subgraphs": [doubled("one"), doubled("two")]})
    assert sent(document, OLD)[0].keys() == {"1", "2", "3:10", "4:10"}
    assert sent(document, NEW)[0].keys() == {"1", "2", "3:10", "4:31"}


def test_members_of_group_nodes_are_numbered_as_the_front_end_numbers_them():
    old, new = sent(grouped(), OLD)[0], sent(grouped(), NEW)[0]
    assert old.keys() == {"1", "2", "3:0", "3:1"} and old["2"]["inputs"]["images"] == ["3:1", 0]
    assert len(new) == 4 and not any(name.startswith("3:") for name in new)


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_group_node_taken_apart_is_said(version):
    assert any("3 workflow>Twice is an old group node" in note for note in sent(grouped(), version)[1])


@pytest.mark.parametrize("mode", [2, 4])
def test_an_old_front_end_that_runs_what_is_in_a_muted_subgraph_is_named(mode):
    document = using("scale", [5, "center"], mode=mode)
    assert any("node 3 scale" in note and "(1.27.10)" in note for note in sent(document, OLD)[1])
    assert not any("front end" in note for note in sent(document, NEW)[1])
    assert sent(document, OLD)[0].keys() == {"1", "2"}


def test_a_muted_subgraph_inside_another_runs_and_that_is_said():
    prompt, notes = sent(using("outer", [77], inner_mode=2), NEW)
    assert "3:20:10" in prompt and any("node 3:20 scale" in note and "runs all the same" in note for note in notes)


def test_values_beside_proxies_are_the_instances_own_only_since_1_47():
    document = using("scale", [5, "center"], properties={"proxyWidgets": [["10", "width"]]})
    assert any("takes those of the nodes inside" in note for note in sent(document, OLD)[1])
    assert sent(document, NEW)[1] == []


def test_a_primitive_outside_that_does_not_reach_into_a_subgraph_is_said():
    document = using("scale", [99, "center"])
    document["nodes"][1]["inputs"][1]["link"] = 9
    document["nodes"].append(node(7, "PrimitiveNode", (), [444, "fixed"], ["INT"]))
    document["links"].append([9, 7, 0, 3, 1, "INT"])
    prompt, notes = sent(document, NEW)
    assert prompt["3:10"]["inputs"]["width"] == 11
    assert any("'width'" in note and "primitive outside" in note and "own value is sent" in note for note in notes)


def test_an_instance_that_shows_nothing_is_said():
    prompt, notes = sent(using("scale", [None, "center"]), NEW)
    assert prompt["3:10"]["inputs"]["width"] == 11
    assert notes == ["node 3 shows no value for 'width' (null): that of node 3:10 inside was taken"]


def test_marks_that_an_old_front_end_leaves_are_said():
    specs = {**SPECS, "SaveAudioMP3": SPECS["SaveImage"]}.get
    for kind, told in (("SaveAudioMP3", True), ("SaveImage", False)):
        nodes = [node(1, "Make", (), [1, 1]), node(2, kind, [("images", 1)], ["a%date:yyyy%"])]
        _, notes = to_api(canvas(nodes, [(1, 1, 0, 2, 0)]), specs, front_end=OLD)
        assert any("marks in its filename_prefix" in note for note in notes) is told


@pytest.mark.parametrize(
    "system, version",
    [
        ({"required_frontend_version": "1.27.10"}, OLD),
        (
            {
                "required_frontend_version": "1.49.6",
                "comfy_package_versions": [{"name": "comfyui-frontend-package", "installed": "1.27.10"}],
            },
            OLD,
        ),
        ({"required_frontend_version": "1.27.10", "argv": ["main.py", "--front-end-root", "x"]}, None),
        ({"required_frontend_version": "1.27.10", "argv": ["main.py", "--cpu"]}, OLD),
        ({"required_frontend_version": None, "comfy_package_versions": "none"}, None),
        ({"required_frontend_version": "unknown"}, None),
        (None, None),
    ],
)
def test_the_version_is_what_the_server_tells(system, version):
    assert front_end_of({"system": system}) == version
