"""Workflows that are wrong in themselves, huge, or another program's: one sentence each, and no traceback."""

import json

import pytest

from clip_vae_lora.headless import command
from clip_vae_lora.headless.workflow.canvas import to_api
from clip_vae_lora.headless.workflow.graph import WorkflowError, server_spec

from .canvas.building import SPECS, canvas, node
from .test_opening import png

HUGE = 10_000_000  # letters


def said(result):
    """The error of a refused run, which is one sentence and no more than a screen."""
    code, _, err = result
    assert code in (1, 2)
    last = err.rstrip().splitlines()[-1]
    assert len(last) < 1500
    return last


def test_a_circle_on_the_canvas_is_named_with_its_nodes(run):
    nodes = [
        node(1, "Colour", [("image", 2)], ["red", 8, 0, "fixed", "t"]),
        node(2, "Colour", [("image", 1)], ["red", 8, 0, "fixed", "t"]),
        node(3, "SaveImage", [("images", 3)], ["x"]),
    ]
    message = said(run(canvas(nodes, [(1, 1, 0, 2, 0), (2, 2, 0, 1, 0), (3, 2, 0, 3, 0)])))
    assert "need each other in a circle: 1 <- 2 <- 1" in message and "remove one link" in message


def test_a_circle_of_nodes_that_only_the_canvas_has_is_named(run):
    nodes = [node(1, "Reroute", [("", 2)]), node(2, "Reroute", [("", 1)]), node(3, "SaveImage", [("images", 3)], ["x"])]
    assert "go round in a circle" in said(run(canvas(nodes, [(1, 1, 0, 2, 0), (2, 2, 0, 1, 0), (3, 2, 0, 3, 0)])))


SEEDED = server_spec(
    {
        "input": {"required": {"seed": ["INT", {}], "steps": ["INT", {"default": 20}], "name": ["STRING", {}]}},
        "output": ["IMAGE"],
        "output_node": True,
    }
)


def twice(second, **more):
    """A class twice: as the class is today, and as `second` has it."""
    return canvas([node(1, "Seeded", (), [5, "fixed", 30, "a"]), node(2, "Seeded", (), second, **more)], [])


def test_a_class_in_two_versions_is_judged_node_by_node():
    with pytest.raises(WorkflowError, match=r"node 2 Seeded: .*'steps' would get 'randomize'.* another version"):
        to_api(twice([7, 30, "randomize", "b"]) | {}, {"Seeded": SEEDED}.get)
    prompt, notes = to_api(twice([7, "fixed", 40, "b", 1, 2]), {"Seeded": SEEDED}.get)
    assert prompt["1"]["inputs"] == {"seed": 5, "steps": 30, "name": "a"}
    assert prompt["2"]["inputs"] == {"seed": 7, "steps": 40, "name": "b"}
    assert len(notes) == 1 and notes[0].startswith("node 2 Seeded: the workflow keeps 6 values")


def test_a_class_in_two_versions_is_taken_by_name_where_the_names_are_kept():
    values = {"seed": 7, "steps": 40, "name": "b"}
    document = twice([7, 40, "randomize", "b"], widgets_values_named=values)
    document["nodes"][1]["widgets_values"] = [7, "old", "randomize", 40, "b"]
    prompt, notes = to_api(document, {"Seeded": SEEDED}.get)
    assert prompt["2"]["inputs"] == values and "taken by their names" in notes[0]
    assert prompt["1"]["inputs"] == {"seed": 5, "steps": 30, "name": "a"}


@pytest.mark.parametrize(
    ("piece", "letters"), [("a word, ", HUGE), *((piece, HUGE // 10) for piece in ("{a|b}", "/* ", "// a\n", "\\{"))]
)
def test_millions_of_letters_are_a_text_as_any_other(piece, letters):
    text = (piece * (letters // len(piece) + 1))[:letters]
    document = canvas([node(1, "Text", (), [text]), node(2, "Show", [("source", 1)])], [(1, 1, 0, 2, 0)])
    prompt, notes = to_api(document, SPECS.get)
    assert isinstance(prompt["1"]["inputs"]["text"], str) and notes == []


@pytest.mark.parametrize("piece", ["%", "%a.b"])
def test_a_million_letters_are_a_file_name_as_any_other(piece):
    text = (piece * (HUGE // 10))[: HUGE // 10]
    nodes = [node(1, "Make", (), [8, 8]), node(2, "SaveImage", [("images", 1)], [text])]
    assert to_api(canvas(nodes, [(1, 1, 0, 2, 0)]), SPECS.get)[0]["2"]["inputs"]["filename_prefix"] == text


def test_ten_million_open_braces_are_refused():
    nodes = [node(1, "Text", (), ["{" * HUGE]), node(2, "Show", [("source", 1)])]
    with pytest.raises(WorkflowError, match="node 1 Text: a text has more than 500000 open braces"):
        to_api(canvas(nodes, [(1, 1, 0, 2, 0)]), SPECS.get)


@pytest.mark.parametrize("place", ["size", "name", "mode", "gain"])
def test_ten_million_letters_in_the_wrong_place_are_not_printed(run, prompt, place):
    prompt["1"]["inputs"][place] = "y" * HUGE
    assert f"its input {place!r}" in said(run(prompt))


@pytest.mark.parametrize(
    "document",
    [
        "y" * HUGE,
        json.dumps({"text": "y" * HUGE}),
        json.dumps({"y" * HUGE: 1}),
        json.dumps({"1": {"class_type": "y" * HUGE, "inputs": {}}}),
        json.dumps({"nodes": [{"id": 1, "type": "y" * HUGE, "outputs": [], "inputs": []}], "links": []}),
        json.dumps({"nodes": [{"id": "y" * HUGE, "type": "SaveImage"}], "links": ["y" * HUGE]}),
        '{"a":' * 2_000_000,
    ],
    ids=["no JSON", "a text", "a key", "a class", "a class on the canvas", "a link", "nested"],
)
def test_ten_million_letters_instead_of_a_workflow(run, document):
    said(run(document))


@pytest.mark.parametrize(
    "document, word",
    [
        ({"prompt": "a cat", "negative_prompt": "", "steps": 20, "cfg_scale": 7, "sampler_name": "Euler a"}, "A1111"),
        ({"generation_mode": "txt2img", "positive_prompt": "a cat", "app_version": "5.0.0", "steps": 30}, "InvokeAI"),
        ({"name": "x", "nodes": [{"id": "a", "type": "invocation", "data": {}}], "edges": [], "meta": {}}, "InvokeAI"),
    ],
)
def test_files_of_other_programs_are_named(run, document, word):
    assert word in said(run(document))


@pytest.mark.parametrize(
    "texts, word",
    [
        ({"parameters": "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7"}, "A1111"),
        ({"invokeai_metadata": '{"positive_prompt": "a cat"}', "invokeai_workflow": "{}"}, "InvokeAI"),
    ],
)
def test_pictures_of_other_programs_are_named(tmp_path, capsys, texts, word):
    path = png(tmp_path / "theirs.png", **texts)
    code = command.main([str(path), "--output", str(tmp_path / "out")])
    assert word in said((code, *capsys.readouterr()))
