"""Every kind of widget takes its places among the saved values and is sent as the front end sends it."""

import pytest

from clip_vae_lora.headless.workflow.canvas import to_api
from clip_vae_lora.headless.workflow.canvas.kinds import NO_SCENE
from clip_vae_lora.headless.workflow.graph import WorkflowError

from .building import SPECS, canvas, node

BOX = {"x": 1, "y": 2, "width": 3, "height": 4}
CURVE = {"points": [[0, 0]], "interpolation": "linear"}
OPTIONS = {"choice": "b", "index": 1, "option1": "a", "option2": "b", "option3": ""}


def inputs(kind, values, slots=(), links=(), **more):
    document = canvas([node(1, kind, slots, values, **more), node(2, "Make")], links)
    return to_api(document, SPECS.get)[0]["1"]["inputs"]


@pytest.mark.parametrize(
    "values, expected",
    [
        (["auto", True], {"format": "auto", "loop": True}),
        (["mp4", "auto", True], {"format": "mp4", "format.codec": "auto", "loop": True}),
        (["mp4", "h264", 18, True], {"format": "mp4", "format.codec": "h264", "format.codec.crf": 18, "loop": True}),
        (["mp4", "h264"], {"format": "mp4", "format.codec": "h264", "format.codec.crf": 23, "loop": False}),
        (None, {"format": "auto", "loop": False}),
        ({"format": "mp4", "loop": True}, {"format": "mp4", "format.codec": "auto", "loop": True}),
        (["webm", True], {"format": "webm", "loop": True}),
    ],
)
def test_an_option_of_a_dynamic_combo_brings_its_inputs(values, expected):
    assert inputs("SaveVideo", values) == expected


def test_links_into_an_option_that_is_not_chosen_are_dropped():
    slots = [("format.codec.crf", 5, 1), ("images", 6)]
    links = [(5, 2, 0, 1, 0), (6, 2, 0, 1, 1)]
    assert inputs("SaveVideo", ["mp4", "auto", True], slots, links) == {
        "format": "mp4",
        "format.codec": "auto",
        "loop": True,
        "images": ["2", 0],
    }
    assert inputs("SaveVideo", ["mp4", "h264", 1, True], slots, links)["format.codec.crf"] == ["2", 0]


@pytest.mark.parametrize(
    "kind, values, expected",
    [
        ("Compare", [], {"compare_view": {"__value__": ["", ""]}}),
        ("Colour", ["#ff0000", 7], {"color": "#ff0000", "size": 7}),
        ("Colour", None, {"color": "#ffffff", "size": 0}),
        ("Crop", [BOX, 1, 2, 3, 4, 9], {"region": BOX, "pad": 9}),
        ("Curve", [CURVE, 4], {"curve": CURVE, "n": 4}),
        ("Paint", ["painter/a.png", "#00ff00"], {"mask": "painter/a.png", "bg": "#00ff00"}),
        ("CustomCombo", ["b", 0, "a", "b", ""], OPTIONS),
    ],
)
def test_other_widgets(kind, values, expected):
    assert inputs(kind, values) == expected


def test_inputs_that_grow_are_sent_by_their_names():
    slots = [("images.image0", 5), ("images.image1", 6), ("images.image2", None)]
    found = inputs("Batch", None, slots, [(5, 2, 0, 1, 0), (6, 2, 0, 1, 1)])
    assert found == {"images.image0": ["2", 0], "images.image1": ["2", 0]}


def scene(*linked):
    """1 Load3D, the outputs of these places linked."""
    slots = [{"name": "o", "type": "*", "links": [9] if place in linked else []} for place in range(3)]
    return canvas([node(1, "Load3D", (), ["a.glb", "", 1]) | {"outputs": slots}], [])


@pytest.mark.parametrize("linked", [(0,), (0, 2)])
def test_a_scene_that_is_looked_at_needs_a_browser_and_is_refused(linked):
    with pytest.raises(WorkflowError, match="node 1 Load3D: its input 'image' is a picture of a 3-D scene"):
        to_api(scene(*linked), SPECS.get)


@pytest.mark.parametrize("linked", [(), (1,), (1, 2)])
def test_a_scene_of_which_only_the_file_is_used_gets_an_empty_picture_and_a_note(linked):
    prompt, notes = to_api(scene(*linked), SPECS.get)
    assert prompt["1"]["inputs"]["model_file"] == "a.glb" and prompt["1"]["inputs"]["width"] == 1
    assert {prompt["1"]["inputs"]["image"][key] for key in ("image", "mask", "normal", "lineart")} == {NO_SCENE}
    assert any("3-D view is drawn by browsers only" in note for note in notes)


def test_values_of_another_version_are_taken_by_name_where_they_are_named():
    notes_of = {"widgets_values_named": {"width": 5, "height": 6}}
    assert inputs("Make", ["randomize", 6], **notes_of) == {"width": 5, "height": 6}
    prompt, notes = to_api(canvas([node(1, "Make", (), ["randomize", 6])], []), SPECS.get)
    assert prompt["1"]["inputs"] == {"width": "randomize", "height": 6}  # which no host takes
    assert any("another version" in note and "--set 1.width=1" in note for note in notes)
    assert inputs("Make", None, **notes_of) == {"width": 5, "height": 6}
