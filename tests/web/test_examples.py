"""Chinese for every text of the examples: notes, titles of groups, what stands behind the names of nodes."""

import json
import re

import pytest

from clip_vae_lora.tests.support.sentences import ROOT

EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
TABLE = json.loads((ROOT / "web" / "zh" / "examples.json").read_text(encoding="utf-8"))
CODE = re.compile(r"`[^`]*`|\*[a-z_/]+\*|[\w-]+/[\w-]+|\w+\.\w+")  # what stays as it is: names of files, what is typed


def texts(graph: dict) -> set[str]:
    """What an example says beside the names of its nodes."""
    said = {group["title"] for group in graph["groups"]}
    for node in graph["nodes"]:
        if node["type"] == "MarkdownNote":
            said |= {node["title"], node["widgets_values"][0]}
        elif ": " in node.get("title", ""):
            said.add(node["title"].split(": ", 1)[1])
    return said


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_text_of_an_example_has_chinese(path):
    assert not texts(json.loads(path.read_text(encoding="utf-8"))) - TABLE.keys()


def test_no_text_is_left_of_an_example_that_is_gone():
    there = set().union(*(texts(json.loads(path.read_text(encoding="utf-8"))) for path in EXAMPLES))
    assert not TABLE.keys() - there


def test_the_same_marks_and_no_english_sentence_stand_in_the_chinese():
    for english, there in TABLE.items():
        assert re.search("[\u4e00-\u9fff]", there)
        assert english.count("**") == there.count("**") and english.count("\n- ") == there.count("\n- ")
        assert not re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", CODE.sub("", there))
