"""--set reaches dotted inputs, what subgraphs show, and values that are JSON."""

import pytest

from clip_vae_lora.headless.workflow.graph import WorkflowError
from clip_vae_lora.headless.workflow.settings import prepared, refuse_links

from .building import SPECS, canvas, node, using


def set_in(document, *settings):
    return prepared(document, settings, SPECS.get, [])[0]


VIDEO = canvas([node(1, "Make"), node(3, "SaveVideo", [("images", 1)], ["auto", True])], [(1, 1, 0, 3, 0)])


def test_an_option_is_set_with_its_inputs_and_these_then():
    found = set_in(VIDEO, "3.format=mp4", "3.format.codec=h264", "3.format.codec.crf=18")["3"]["inputs"]
    wanted = {"images": ["1", 0], "format": "mp4", "format.codec": "h264", "format.codec.crf": 18, "loop": True}
    assert found == wanted
    assert set_in(VIDEO, "SaveVideo.format=mp4")["3"]["inputs"]["format.codec"] == "auto"
    back = set_in(set_in(VIDEO, "3.format=mp4", "3.format.codec=h264"), "3.format=auto")["3"]["inputs"]
    assert back == {"images": ["1", 0], "format": "auto", "loop": True}


def test_an_unknown_option_or_an_input_of_another_one_is_named():
    with pytest.raises(WorkflowError, match="'avi' is not one of its choices|\"avi\" is not one of its choices"):
        set_in(VIDEO, "3.format=avi")
    with pytest.raises(WorkflowError, match=r"has no input 'format.codec'"):
        set_in(VIDEO, "3.format.codec=h264")


@pytest.mark.parametrize("name", ["3.width", "Big.width", "Big.how wide"])
def test_what_a_subgraph_shows_is_set_by_its_title_and_label(name):
    document = using("outer", [77], title="Big")
    document["nodes"][1]["inputs"][1]["label"] = "how wide"
    assert set_in(document, f"{name}=123")["3:20:10"]["inputs"]["width"] == 123
    with pytest.raises(WorkflowError, match="shows no value 'nothing'; it shows width, how wide"):
        set_in(document, "Big.nothing=1")


def test_whole_json_values_and_links():
    document = canvas([node(1, "Make"), node(2, "Curve"), node(3, "Preview", [("images", 1)])], [(1, 1, 0, 3, 0)])
    curve = '{"points": [[0, 1]], "interpolation": "linear"}'
    assert set_in(document, f"2.curve={curve}")["2"]["inputs"]["curve"]["points"] == [[0, 1]]
    assert set_in(document, '3.images=["2", 0]')["3"]["inputs"]["images"] == ["2", 0]
    with pytest.raises(WorkflowError, match="set as JSON"):
        set_in(document, "2.curve=straight")


GROWN = canvas(
    [node(1, "Make"), node(2, "Batch", [("images.image0", 1), ("images.image1", None)]), node(4, "Sum")],
    [(1, 1, 0, 2, 0)],
)


def test_an_input_that_grows_takes_links_and_values_up_to_its_last():
    found = set_in(GROWN, '2.images.image3=["1", 0]', "4.values.a=2", "4.values.b=0.5")
    assert found["2"]["inputs"] == {"images.image0": ["1", 0], "images.image3": ["1", 0]}
    assert found["4"]["inputs"] == {"values.a": 2, "values.b": 0.5}
    assert set_in(GROWN, '4.values.a=["1", 0]')["4"]["inputs"] == {"values.a": ["1", 0]}


@pytest.mark.parametrize(
    "setting, sentence",
    [
        ('2.images.image4=["1", 0]', "has no input 'images.image4'; it has images.image"),
        ('2.images=["1", 0]', "has no input 'images'; it has images.image"),
        ('2.images.image1=["9", 0]', "there is no node '9' in the workflow"),
        ("2.images.image1=cat.png", "comes through a link"),
        ("4.values.a=much", "comes through a link"),
    ],
)
def test_what_an_input_that_grows_does_not_take_is_named(setting, sentence):
    with pytest.raises(WorkflowError, match=sentence):
        set_in(GROWN, setting)


@pytest.mark.parametrize(
    "link, sentence",
    [
        (
            ["1", 5],
            "node 3 Preview: its input 'images' is linked to output 5 of node 1 Make \"m\", which has 1 outputs",
        ),
        (["9", 0], "is linked to node 9, which is not in the workflow"),
    ],
)
def test_a_link_to_what_is_not_there_is_named_before_a_server_sees_it(link, sentence):
    prompt = {
        "1": {"class_type": "Make", "inputs": {}, "_meta": {"title": "m"}},
        "2": {"class_type": "Preview", "inputs": {"images": ["1", 0], "not_declared": ["9", 9]}},
    }
    refuse_links(prompt, SPECS.get)
    prompt["3"] = {"class_type": "Preview", "inputs": {"images": link}}
    with pytest.raises(WorkflowError, match=sentence):
        refuse_links(prompt, SPECS.get)


def test_a_number_or_a_text_can_be_set_as_a_link():
    document = canvas([node(1, "Make"), node(2, "Text", (), ["cat"]), node(3, "Make")], [])
    assert set_in(document, '3.width=["1", 0]')["3"]["inputs"]["width"] == ["1", 0]
    assert set_in(document, '2.text=["1", 0]')["2"]["inputs"]["text"] == ["1", 0]
    assert set_in(document, '2.text=["8", 0]')["2"]["inputs"]["text"] == '["8", 0]'


def test_nodes_that_need_each_other_are_named():
    nodes = [node(1, "Invert", [("image", 2)]), node(2, "Invert", [("image", 1)])]
    with pytest.raises(WorkflowError, match="nodes need each other in a circle"):
        set_in(canvas(nodes, [(1, 1, 0, 2, 0), (2, 2, 0, 1, 0)]))
