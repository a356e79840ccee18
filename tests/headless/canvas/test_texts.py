"""Marks in prefixes and choices in prompts become what the front end makes of them."""

from datetime import datetime

import pytest

from clip_vae_lora.headless.workflow.canvas import to_api
from clip_vae_lora.headless.workflow.canvas.texts import dynamic_prompt, replaced

from .building import SPECS, canvas, node

NOW = datetime(2026, 11, 8, 3, 7, 9)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("%date:yyyy-MM-dd%/pic", "2026-11-08/pic"),
        ("%date:yy-M-d hh:m:ss%", "26-11-8 03:7:09"),
        ("%date:yyyhh%", "yyy03"),
        ("%Node.width%x%Node.height%", "64x1.5"),
        ("%Node.name%", "a_b_c"),
        ("%Node.nothing% %nobody.width% %width% 100%", "%Node.nothing% %nobody.width% %width% 100%"),
    ],
)
def test_marks_are_replaced(text, expected):
    values = {("Node", "width"): 64, ("Node", "height"): 1.5, ("Node", "name"): "a/b:c"}
    assert replaced(text, lambda node, widget: values.get((node, widget)), NOW) == expected


@pytest.mark.parametrize(
    "more, mark", [({"title": "My Make"}, "My Make"), ({"properties": {"Node name for S&R": "it"}}, "it"), ({}, "Make")]
)
def test_a_node_is_found_by_its_search_name_or_its_title(more, mark):
    nodes = [
        node(1, "Make", (), [64, 65], **more),
        node(2, "SaveImage", [("images", 1)], [f"%{mark}.height%_%date:yy%"]),
    ]
    prompt, _ = to_api(canvas(nodes, [(1, 1, 0, 2, 0)]), SPECS.get, NOW)
    assert prompt["2"]["inputs"]["filename_prefix"] == "65_26" and prompt["2"]["_meta"]["title"] == "Save"


def test_a_prefix_of_another_class_keeps_its_marks():
    prompt, _ = to_api(canvas([node(1, "Text", (), ["%date:yy%"])], []), SPECS.get, NOW)
    assert prompt["1"]["inputs"]["text"] == "%date:yy%"


@pytest.mark.parametrize("text", ["{" * 300_000, "/*" * 300_000, "/ *" * 300_000, "a|b " * 2_500_000])
def test_long_texts_are_read_once(text):
    dynamic_prompt(text)


def test_a_comment_that_does_not_end_stays():
    assert dynamic_prompt("a /* b */ c // d\ne /* f") == "a  c \ne /* f"
