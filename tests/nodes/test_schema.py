"""The face of every node is written down, and workflows saved with an older face still work."""

import pytest

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS
from clip_vae_lora.tests.nodes.write_schema import breaks, face, faces, saved_faces


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_a_node_is_written_down_in_the_schema(name):
    assert name in saved_faces(), "a new node: run `python tests/nodes/write_schema.py`, which adds it to schema.json"


@pytest.mark.parametrize("name", saved_faces())
def test_workflows_saved_with_a_node_still_work(name):
    assert name in NODE_CLASS_MAPPINGS, "an id is for ever: keep it, with a class whose DEPRECATED is True if need be"
    assert breaks(saved_faces()[name], faces()[name]) == []


def entry(name: str, kind: str = "INT", group: str = "required", options: list[str] | None = None) -> dict:
    return {"name": name, "type": kind, "group": group} | ({} if options is None else {"options": options})


OLD_INPUTS = [
    entry("image", "IMAGE"),
    entry("size"),
    entry("mode", "COMBO", "optional", ["a", "b"]),
    entry("gain", "FLOAT", "optional"),
]


IMAGE, SIZE, MODE, GAIN = OLD_INPUTS
OLD = {"inputs": OLD_INPUTS, "outputs": ["IMAGE", "STRING"]}


NEW = entry("new", "INT", "optional")


def with_inputs(*inputs: dict) -> dict:
    return {**OLD, "inputs": list(inputs)}


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(with_inputs(IMAGE, SIZE, MODE), id="the last input removed"),
        pytest.param(with_inputs(IMAGE, MODE, GAIN), id="an input removed"),
        pytest.param(with_inputs(IMAGE, entry("width"), MODE, GAIN), id="an input renamed"),
        pytest.param(with_inputs(IMAGE, SIZE, GAIN, MODE), id="two inputs swapped"),
        pytest.param(with_inputs(IMAGE, entry("size", "FLOAT"), MODE, GAIN), id="another type"),
        pytest.param(with_inputs(IMAGE, SIZE, entry("mode", "STRING", "optional"), GAIN), id="a menu made text"),
        pytest.param(with_inputs(IMAGE, entry("size", "INT", "optional"), MODE, GAIN), id="required made optional"),
        pytest.param(with_inputs(IMAGE, SIZE, MODE, entry("gain", "FLOAT")), id="optional made required"),
        pytest.param(with_inputs(NEW, IMAGE, SIZE, MODE, GAIN), id="a new input before the others"),
        pytest.param(with_inputs(IMAGE, SIZE, MODE, NEW, GAIN), id="a new input in between"),
        pytest.param(with_inputs(IMAGE, SIZE, MODE, GAIN, entry("new")), id="a new input that is required"),
        pytest.param(with_inputs(IMAGE, SIZE, {**MODE, "options": ["a"]}, GAIN), id="a menu entry removed"),
        pytest.param({**OLD, "outputs": ["IMAGE"]}, id="an output removed"),
        pytest.param({**OLD, "outputs": ["STRING", "IMAGE"]}, id="outputs swapped"),
        pytest.param({**OLD, "outputs": ["IMAGE", "INT"]}, id="an output of another type"),
        pytest.param({**OLD, "outputs": ["INT", "IMAGE", "STRING"]}, id="a new output before the others"),
    ],
)
def test_a_change_that_breaks_saved_workflows_is_found(now):
    assert breaks(OLD, now)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(OLD, id="nothing changed"),
        pytest.param(with_inputs(IMAGE, SIZE, MODE, GAIN, NEW), id="an optional input behind the others"),
        pytest.param(with_inputs(IMAGE, SIZE, {**MODE, "options": ["c", "a", "b"]}, GAIN), id="a new menu entry"),
        pytest.param({**OLD, "outputs": ["IMAGE", "STRING", "INT"]}, id="an output behind the others"),
    ],
)
def test_what_is_only_added_behind_breaks_nothing(now):
    assert breaks(OLD, now) == []


def test_one_change_is_told_in_one_sentence():
    assert breaks(OLD, with_inputs(IMAGE, entry("size", "FLOAT"), MODE, GAIN)) == ["input size was INT and is FLOAT"]


def test_a_face_lists_required_inputs_first_and_menus_as_combo():
    class Node:
        RETURN_TYPES = ("IMAGE",)

        @classmethod
        def INPUT_TYPES(cls):
            return {"optional": {"mode": (["a", "b"], {})}, "required": {"image": ("IMAGE",)}}

    assert face(Node) == {"inputs": [IMAGE, MODE], "outputs": ["IMAGE"]}
