"""What the canvas saves becomes what the frontend would send: both forms of links, widgets by position, modes."""

import json

import pytest

from clip_vae_lora.headless.workflow.canvas import to_api
from clip_vae_lora.headless.workflow.canvas.graphs import read_node
from clip_vae_lora.headless.workflow.canvas.texts import dynamic_prompt
from clip_vae_lora.headless.workflow.canvas.widgets import node_widgets
from clip_vae_lora.headless.workflow.graph import WorkflowError, spec


def widget_values(values, known, notes):
    """Input name -> value of a node that the canvas kept these values for."""
    held = node_widgets(read_node({"id": 1, "type": "n", "widgets_values": values}, "1"), known, notes)
    return {name: one.value for name, one in held.items()}


def node(number, kind, inputs=(), values=None, mode=0, outputs=("IMAGE", "STRING"), title=None):
    """A node as the canvas saves it; inputs are (name, type, link) or (name, type, link, widget)."""
    slots = [
        {"name": name, "type": kind, "link": link, **({"widget": {"name": widget[0]}} if widget else {})}
        for name, kind, link, *widget in inputs
    ]
    found = {
        "id": number,
        "type": kind,
        "pos": [0, 0],
        "size": [1, 1],
        "flags": {},
        "order": 0,
        "mode": mode,
        "inputs": slots,
        "outputs": [{"name": o, "type": o, "links": []} for o in outputs],
        "properties": {},
    }
    if values is not None:
        found["widgets_values"] = values
    if title:
        found["title"] = title
    return found


def canvas(nodes, links, version):
    """The document in version 0.4 (links as arrays) or 1 (links as objects)."""
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    if version == 1:
        links = [dict(zip(keys, link)) for link in links]
        return {"version": 1, "state": {}, "nodes": nodes, "links": links}
    return {
        "version": 0.4,
        "last_node_id": 9,
        "last_link_id": 9,
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
    }


VALUES = ["green", 16, 99, "randomize", "a cat", 0.5, True, "b"]  # a slot for control_after_generate after the seed
PAINTED = {"name": "green", "size": 16, "seed": 99, "text": "a cat", "gain": 0.5, "invert": True, "mode": "b"}


@pytest.mark.parametrize("version", [0.4, 1])
def test_both_forms_give_the_same_prompt(specs, version):
    document = canvas(
        [
            node(1, "Colour", [("image", "IMAGE", None)], VALUES, title="Paint"),
            node(2, "SaveImage", [("images", "IMAGE", 5)], ["pre"], outputs=()),
        ],
        [[5, 1, 0, 2, 0, "IMAGE"]],
        version,
    )
    prompt, notes = to_api(json.loads(json.dumps(document)), specs)
    assert prompt == {
        "1": {"class_type": "Colour", "inputs": PAINTED, "_meta": {"title": "Paint"}},
        "2": {
            "class_type": "SaveImage",
            "inputs": {"filename_prefix": "pre", "images": ["1", 0]},
            "_meta": {"title": "SaveImage"},
        },
    }
    assert notes == []


def test_ids_may_be_texts_and_links_a_table(specs):
    document = canvas(
        [node("a", "Colour", (), VALUES), node("b", "PreviewImage", [("images", "IMAGE", 5)])],
        [[5, "a", 0, "b", 0, "IMAGE"]],
        0.4,
    )
    document["links"] = {"5": {"id": 5, "origin_id": "a", "origin_slot": 0, "target_id": "b", "target_slot": 0}}
    assert to_api(document, specs)[0]["b"]["inputs"] == {"images": ["a", 0]}


@pytest.mark.parametrize("values, gain", [(PAINTED, 0.5), (VALUES, 0.5), ([*VALUES[:5], None, True, "b"], 1.0)])
def test_values_by_name_and_by_position(specs, values, gain):
    prompt, _ = to_api(canvas([node(1, "Colour", (), values)], [], 0.4), specs)
    assert prompt["1"]["inputs"] == PAINTED | {"gain": gain}


def test_widgets_that_were_not_saved_get_their_defaults(specs):
    prompt, _ = to_api(canvas([node(1, "Colour", (), ["blue", 3])], [], 0.4), specs)
    assert prompt["1"]["inputs"] == {
        "name": "blue",
        "size": 3,
        "seed": 0,
        "text": "hello",
        "gain": 1.0,
        "invert": False,
        "mode": "a",
    }


def test_a_widget_converted_to_an_input_keeps_its_place_and_takes_the_link(specs):
    document = canvas(
        [
            node(1, "PrimitiveStringMultiline", (), ["from far"], outputs=("STRING",)),
            node(2, "Colour", [("image", "IMAGE", None), ("text", "STRING", 3, "text")], VALUES),
        ],
        [[3, 1, 0, 2, 1, "STRING"]],
        0.4,
    )
    assert to_api(document, specs)[0]["2"]["inputs"] == PAINTED | {"text": ["1", 0]}


def test_a_primitive_writes_into_its_widget_also_when_there_are_several(specs):
    document = canvas(
        [
            node(1, "PrimitiveNode", (), [33, "fixed"], outputs=("INT",)),
            node(2, "Colour", [("seed", "INT", 3, "seed")], VALUES),
            node(4, "Colour", [("size", "INT", 5, "size")], VALUES),
        ],
        [[3, 1, 0, 2, 0, "INT"], [5, 1, 0, 4, 0, "INT"]],
        0.4,
    )
    prompt, notes = to_api(document, specs)
    assert prompt["2"]["inputs"] == PAINTED | {"seed": 33} and prompt["4"]["inputs"] == PAINTED | {"size": 33}
    assert "1" not in prompt and notes == []


def test_reroutes_and_notes_vanish(specs):
    document = canvas(
        [
            node(1, "Colour", (), VALUES),
            node(2, "Reroute", [("", "*", 1)], outputs=("IMAGE",)),
            node(3, "Reroute", [("", "*", 2)], outputs=("IMAGE",)),
            node(4, "PreviewImage", [("images", "IMAGE", 3)]),
            node(5, "Note", (), ["text"]),
            node(6, "MarkdownNote", (), ["text"]),
        ],
        [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 3, 0, "*"], [3, 3, 0, 4, 0, "IMAGE"]],
        0.4,
    )
    prompt, _ = to_api(document, specs)
    assert set(prompt) == {"1", "4"} and prompt["4"]["inputs"]["images"] == ["1", 0]


def test_a_bypassed_node_hands_on_the_input_of_the_same_type(specs):
    document = canvas(
        [
            node(1, "Colour", (), VALUES),
            node(2, "Colour", [("text", "STRING", None), ("image", "IMAGE", 1)], VALUES, mode=4),
            node(3, "PreviewImage", [("images", "IMAGE", 2)]),
        ],
        [[1, 1, 0, 2, 1, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
        0.4,
    )
    prompt, notes = to_api(document, specs)
    assert set(prompt) == {"1", "3"} and prompt["3"]["inputs"]["images"] == ["1", 0] and notes == []


def test_a_bypassed_node_prefers_the_input_in_the_same_place(specs):
    document = canvas(
        [
            node(1, "Colour", (), VALUES),
            node(2, "Colour", (), VALUES),
            node(3, "ImageBatch", [("image1", "IMAGE", 1), ("image2", "IMAGE", 2)], mode=4, outputs=("IMAGE", "IMAGE")),
            node(4, "PreviewImage", [("images", "IMAGE", 3)]),
        ],
        [[1, 1, 0, 3, 0, "IMAGE"], [2, 2, 0, 3, 1, "IMAGE"], [3, 3, 1, 4, 0, "IMAGE"]],
        0.4,
    )
    assert to_api(document, specs)[0]["4"]["inputs"]["images"] == ["2", 0]


@pytest.mark.parametrize("mode, output", [(2, 0), (4, 1)])
def test_a_link_from_a_muted_node_or_one_that_has_nothing_to_hand_on_is_reported(specs, mode, output):
    document = canvas(
        [
            node(1, "Colour", [("image", "IMAGE", None)], VALUES, mode=mode),
            node(3, "PreviewAny", [("source", "STRING", 2)]),
        ],
        [[2, 1, output, 3, 0, "STRING"]],
        0.4,
    )
    prompt, notes = to_api(document, specs)
    assert prompt["3"]["inputs"] == {} and len(notes) == 1 and "(muted, bypassed" in notes[0]


def test_a_list_as_value_is_wrapped_so_that_it_is_no_link():
    known = spec({"required": {"pick": ("COMBO", {"options": ["a", "b"], "multi_select": True})}}, (), False)
    prompt, _ = to_api(canvas([node(1, "Many", (), [["a", "b"]])], [], 0.4), {"Many": known}.get)
    assert prompt["1"]["inputs"] == {"pick": {"__value__": ["a", "b"]}}


@pytest.mark.parametrize(
    "options, values",
    [
        ({}, [5, "x"]),
        ({"control_after_generate": True}, [5, "fixed", "x"]),
        ({"control_after_generate": False}, [5, "x"]),
        ({"control_after_generate": "increment"}, [5, "increment", "x"]),
    ],
)
@pytest.mark.parametrize("name", ["steps", "seed", "noise_seed"])
def test_the_slot_of_control_after_generate(name, options, values):
    known = spec({"required": {name: ("INT", options), "text": ("STRING", {})}}, (), False)
    if not options and name != "steps":
        values = [5, "randomize", "x"]
    assert widget_values(values, known, []) == {name: 5, "text": "x"}


def test_a_combo_with_control_takes_two_slots():
    known = spec({"required": {"m": (["a", "b"], {"control_after_generate": True}), "t": ("STRING", {})}}, (), False)
    assert widget_values(["b", "fixed", "", "x"], known, []) == {"m": "b", "t": "x"}


def test_old_frontends_kept_values_for_sockets_too():
    known = spec({"required": {"a": ("INT", {"forceInput": True}), "b": ("INT", {}), "c": ("STRING", {})}}, (), False)
    assert widget_values([1, 2, "x"], known, []) == {"b": 2, "c": "x"}
    assert widget_values([2, "x"], known, []) == {"b": 2, "c": "x"}


def test_more_values_than_widgets_are_reported_but_not_an_upload_button(specs):
    notes = []
    widget_values(["cat.png", "image"], specs("LoadImage"), notes)
    assert notes == []
    widget_values(["x", "y"], specs("PrimitiveString"), notes)
    assert "keeps 2 values" in notes[0]


def test_shifted_values_are_an_error_instead_of_a_wrong_run(specs):
    with pytest.raises(WorkflowError, match="'gain' would get 'randomize'"):
        to_api(canvas([node(1, "Colour", (), ["green", 16, 99, "a cat", 3, "randomize"])], [], 0.4), specs)


def test_an_unknown_node_is_named_and_one_without_links_left_out(specs):
    lonely = canvas([node(1, "Colour", (), VALUES), node(8, "Label (rgthree)", title="My label")], [], 0.4)
    assert 'node 8 Label (rgthree) "My label"' in to_api(lonely, specs)[1][0]
    linked = canvas(
        [node(1, "KSamplerAdvanced", (), [1]), node(2, "PreviewImage", [("images", "IMAGE", 1)])],
        [[1, 1, 0, 2, 0, "IMAGE"]],
        1,
    )
    with pytest.raises(
        WorkflowError, match="not known here: node 1 KSamplerAdvanced; install .* or run it with --server"
    ):
        to_api(linked, specs)


@pytest.mark.parametrize(
    "nodes, links, said",
    [
        ([{"id": 1}], [], "no id or no type"),
        ([{"type": "x"}], [], "no id or no type"),
        ([7], [], "no id or no type"),
        ([node(1, "Colour"), node(1, "Colour")], [], "two nodes have the id 1"),
        ([node(1, "PreviewImage", [("images", "IMAGE", 3)])], [], "leads nowhere"),
        ([node(1, "PreviewImage", [("images", "IMAGE", 3)])], [[3, 9, 0, 1, 0, "IMAGE"]], "leads nowhere"),
        ([node(1, "Colour")], [[1, 2]], "the link"),
        ([node(1, "Colour")], [{"id": 1}], "the link"),
        ([node(1, "Colour")], ["abcde"], "the link"),
        ([node(1, "Colour", (), "text")], [], "neither a list nor a table"),
        ([node(1, "Note"), node(2, "Colour", mode=2)], [], "no nodes to run"),
        (
            [
                node(1, "Reroute", [("", "*", 1)]),
                node(2, "Reroute", [("", "*", 2)]),
                node(3, "PreviewAny", [("source", "*", 3)]),
            ],
            [[1, 2, 0, 1, 0, "*"], [2, 1, 0, 2, 0, "*"], [3, 1, 0, 3, 0, "*"]],
            "circle",
        ),
    ],
)
def test_a_damaged_canvas_is_an_error_with_the_place(specs, nodes, links, said):
    with pytest.raises(WorkflowError, match=said):
        to_api(canvas(nodes, links, 0.4), specs)


def test_dynamic_prompts_are_chosen_as_the_canvas_does():
    seen = {dynamic_prompt("a {red|green {big|small}} cat // no\n/* nor\nthis */!") for _ in range(200)}
    assert seen == {"a red cat \n!", "a green big cat \n!", "a green small cat \n!"}
    assert dynamic_prompt(r"\{a\|b\} (x:1.2) {only} end\\") == r"{a|b} (x:1.2) only end\\"
