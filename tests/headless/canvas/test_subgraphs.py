"""Subgraphs are taken apart as the front end does it: ids, values of instances, modes, boundaries."""

import copy

import pytest

from clip_vae_lora.headless.workflow.canvas import class_names, convert, to_api
from clip_vae_lora.headless.workflow.graph import WorkflowError
from clip_vae_lora.headless.workflow.settings import prepared

from .building import SPECS, canvas, node, subgraph, using


def prompt_of(document):
    return to_api(document, SPECS.get)[0]


def inputs_of(document, own):
    return prompt_of(document)[own]["inputs"]


def test_an_inner_node_has_the_ids_of_its_instances_and_takes_their_values():
    prompt = prompt_of(using("scale", [99, "disabled"]))
    assert set(prompt) == {"1", "2", "3:10"} and prompt["2"]["inputs"] == {"images": ["3:10", 0]}
    scaled = {"image": ["1", 0], "upscale_method": "area", "width": 99, "height": 12, "crop": "disabled"}
    assert prompt["3:10"]["inputs"] == scaled


def test_an_instance_without_values_leaves_those_inside():
    assert inputs_of(using("scale", None), "3:10")["width"] == 11
    assert inputs_of(using("scale", [None, "disabled"]), "3:10")["width"] == 11


def test_a_nested_instance_takes_what_the_outer_one_shows_and_keeps_the_rest():
    prompt = prompt_of(using("outer", [77]))
    assert set(prompt) == {"1", "2", "3:20:10", "3:21"}
    inside = prompt["3:20:10"]["inputs"]
    assert (inside["width"], inside["crop"], inside["image"]) == (77, "disabled", ["1", 0])
    assert inputs_of(using("outer", None), "3:20:10")["width"] == 55


@pytest.mark.parametrize("mode, fed", [(2, {}), (4, {"images": ["1", 0]})])
def test_a_muted_or_bypassed_instance(mode, fed):
    prompt = prompt_of(using("outer", [77], mode))
    assert set(prompt) == {"1", "2"} and prompt["2"]["inputs"] == fed


def test_an_instance_bypassed_inside_hands_its_input_on():
    assert inputs_of(using("outer", [77], 0, 4), "3:21") == {"image": ["1", 0]}


def test_two_instances_have_values_of_their_own():
    document = using("scale", [99, "disabled"])
    document["nodes"] += [node(5, "scale", [("image", 3)], [33, "center"]), node(6, "Preview", [("images", 4)])]
    document["links"] += [[3, 3, 0, 5, 0, "*"], [4, 5, 0, 6, 0, "*"]]
    prompt = prompt_of(document)
    assert prompt["3:10"]["inputs"]["width"] == 99 and prompt["5:10"]["inputs"]["width"] == 33
    assert prompt["5:10"]["inputs"]["image"] == ["3:10", 0]


def test_the_values_beside_proxies_go_to_the_widgets_that_these_name():
    shown = {"proxyWidgets": [["10", "height"], ["-1", "width"], ["10", "crop"]]}
    assert inputs_of(using("scale", [5, 6, "disabled"], properties=shown), "3:10") == {
        "image": ["1", 0],
        "upscale_method": "area",
        "width": 6,
        "height": 5,
        "crop": "disabled",
    }


def test_ids_that_are_taken_are_replaced_as_the_front_end_does():
    document = using("scale", [99, "disabled"])
    own = document["definitions"]["subgraphs"][0]
    own["nodes"][0]["id"] = 2
    for link in own["links"]:
        link.update({key: 2 for key in ("origin_id", "target_id") if link[key] == 10})
    assert prompt_of(document)["2"]["inputs"] == {"images": ["3:31", 0]}


def test_an_output_that_is_an_input_passes_through():
    document = using("scale", [1, "center"])
    own = document["definitions"]["subgraphs"][0]
    own["outputs"][0]["linkIds"] = [9]
    own["links"].append({"id": 9, "origin_id": -10, "origin_slot": 0, "target_id": -20, "target_slot": 0})
    assert prompt_of(document)["2"]["inputs"] == {"images": ["1", 0]}


def test_a_subgraph_that_contains_itself_is_named():
    document = using("scale", None)
    document["definitions"]["subgraphs"][0]["nodes"].append(node(11, "scale", [("image", None)]))
    with pytest.raises(WorkflowError, match="contains itself"):
        prompt_of(document)


def test_the_classes_inside_are_asked_for_and_the_document_stays_as_it_was():
    document = using("outer", [77])
    before = copy.deepcopy(document)
    assert class_names(document) == ["Invert", "Make", "Preview", "Scale"]
    prompt_of(document)
    assert document == before


def test_what_an_instance_shows_is_told():
    shown = convert(using("outer", [77]), SPECS.get).shown
    assert shown["3"].title == "the outer" and shown["3"].inputs == {"width": [("3:20:10", "width")]}


def test_chains_are_walked_however_long():
    count = 10_000
    nodes = [node(0, "Make", (), [1, 2])]
    nodes += [node(place, "Reroute", [("", place)]) for place in range(1, count)]
    nodes += [node(count, "Preview", [("images", count)]), node(count + 1, "Preview", [("images", count + 1)])]
    links = [(place, place - 1, 0, place, 0) for place in range(1, count + 1)] + [
        (count + 1, count - 1, 0, count + 1, 0)
    ]
    prompt = prompt_of(canvas(nodes, links))
    assert prompt[str(count)]["inputs"] == prompt[str(count + 1)]["inputs"] == {"images": ["0", 0]}


def test_subgraphs_within_subgraphs_are_walked_however_deep():
    definitions = [
        subgraph(
            "s0",
            [node(1000, "Invert", [("image", 1)])],
            [(1, -10, 0, 1000, 0), (2, 1000, 0, -20, 0)],
            [("image", [1])],
            [("IMAGE", [2])],
        )
    ]
    for depth in range(1, 300):
        own = 1000 + depth
        links = [(1, -10, 0, own, 0), (2, own, 0, -20, 0)]
        inside = [node(own, f"s{depth - 1}", [("image", 1)])]
        definitions.append(subgraph(f"s{depth}", inside, links, [("image", [1])], [("IMAGE", [2])]))
    nodes = [node(1, "Make"), node(3, "s299", [("image", 1)]), node(2, "Preview", [("images", 2)])]
    document = canvas(nodes, [(1, 1, 0, 3, 0), (2, 3, 0, 2, 0)], definitions={"subgraphs": definitions})
    prompt = prompt_of(document)
    deep = prompt["2"]["inputs"]["images"][0]
    assert deep.count(":") == 300 and prompt[deep]["inputs"] == {"image": ["1", 0]}


def proxied(inside, values, outside, outer_values, ids=(10, 11, 20)):
    """3 shows what 20 in it shows of the two Scales in that, all by `proxyWidgets`; as the front end read them."""
    first, second, middle = ids
    scales = [
        node(first, "Scale", [("image", 1)], ["area", 11, 12, "center"]),
        node(second, "Scale", [("image", 2)], ["area", 22, 12, "center"]),
    ]
    links = [(1, -10, 0, first, 0), (2, first, 0, second, 0), (3, second, 0, -20, 0)]
    deep = subgraph("deep", scales, links, [("image", [1])], [("IMAGE", [3])])
    instance = node(middle, "deep", [("image", 1)], values, properties={"proxyWidgets": inside})
    links = [(1, -10, 0, middle, 0), (2, middle, 0, -20, 0)]
    around = subgraph("around", [instance], links, [("image", [1])], [("IMAGE", [2])])
    top = node(3, "around", [("image", 1)], outer_values, properties={"proxyWidgets": outside})
    nodes = [node(1, "Make"), top, node(2, "Preview", [("images", 2)])]
    return canvas(nodes, [(1, 1, 0, 3, 0), (2, 3, 0, 2, 0)], definitions={"subgraphs": [deep, around]})


WIDTHS = [["10", "width"], ["11", "width"]]


@pytest.mark.parametrize(
    "outside, values, expected",
    [
        ([["20", "width"]], [3], (3, 2)),
        ([["20", "width", "11"], ["20", "width", "10"]], [3, 4], (4, 3)),
        ([["20", "11: width"], ["20", "10: width"]], [3, 4], (4, 3)),
        ([["20", "width"], ["20", "width_1"]], [3, 4], (3, 4)),
        ([["20", "11: width"]], [3], (1, 3)),
        ([["20", "width", "11"]], [None], (1, 2)),
        ([], [], (1, 2)),
    ],
)
def test_what_a_subgraph_shows_of_a_subgraph_goes_to_the_widget_deep_inside(outside, values, expected):
    prompt, _ = to_api(proxied(WIDTHS, [1, 2], outside, values), SPECS.get)
    assert tuple(prompt[f"3:20:{number}"]["inputs"]["width"] for number in (10, 11)) == expected


def test_what_is_shown_follows_nodes_whose_ids_are_made_unique():
    document = proxied([["1", "width"], ["2", "crop"]], [1, "center"], [["3", "width"]], [7], ids=(1, 2, 3))
    prompt, _ = to_api(document, SPECS.get)
    assert [found["inputs"]["width"] for key, found in prompt.items() if key.count(":") == 2] == [7, 22]


def test_what_is_shown_of_what_is_shown_can_be_set():
    document = proxied(WIDTHS, [1, 2], [["20", "width"]], [3])
    prompt, _ = prepared(document, ["3.width=55"], SPECS.get, [])
    assert prompt["3:20:10"]["inputs"]["width"] == 55
