"""In Chinese a node's input and the values of its menus are called as the node calls them, in tips, sentences and help;
and no English word stands there that is no name.
"""

import json
import re

import pytest

from clip_vae_lora.tests.support import sentences
from clip_vae_lora.tests.support.words.chinese_names import english_words

ROOT = sentences.ROOT
DEFINITIONS = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
SCHEMA = json.loads((ROOT / "tests" / "nodes" / "schema.json").read_text(encoding="utf-8"))
MENUS = json.loads((ROOT / "web" / "zh" / "menus.json").read_text(encoding="utf-8"))
EXAMPLES = json.loads((ROOT / "web" / "zh" / "examples.json").read_text(encoding="utf-8"))
ALL = [*sentences.chinese().values(), *MENUS.values(), *EXAMPLES.values()]

every_node = pytest.mark.parametrize("name", DEFINITIONS)


def menus(name: str) -> dict[str, dict[str, str]]:
    """Of each menu of a node: the values that are shown in Chinese, and how."""
    values = {one["name"]: one["options"] for one in SCHEMA[name]["inputs"] if "options" in one}
    shown = {key: {str(value): MENUS.get(str(value)) for value in menu} for key, menu in values.items()}
    return {
        key: {value: label for value, label in menu.items() if label not in (None, value)}
        for key, menu in shown.items()
    }


def texts(found: object) -> list[str]:
    return [found] if isinstance(found, str) else [text for inner in found.values() for text in texts(inner)]


@every_node
def test_a_tip_says_the_values_of_a_menu_as_the_menu_shows_them(name):
    for key, menu in menus(name).items():
        tip = DEFINITIONS[name]["inputs"][key]["tooltip"]
        for label in menu.values():
            tip = tip.replace(label, "")
        assert not [value for value in menu if re.search(rf"(?<![\w./-]){re.escape(value)}(?![\w./+-])", tip)], (
            key,
            tip,
        )


@every_node
def test_no_tip_has_an_english_word_that_is_no_name(name):
    assert not {text: found for text in texts(DEFINITIONS[name]) if (found := english_words(text))}


def test_no_sentence_has_an_english_word_that_is_no_name():
    said = [text for text in ALL if re.search("[一-鿿]", text)]
    assert len(said) > 1000
    assert not {text: found for text in said if (found := english_words(text))}


def test_what_the_same_input_is_called_does_not_change_with_its_spelling():
    names = {
        text["name"] for node in DEFINITIONS.values() for side in ("inputs", "outputs") for text in node[side].values()
    }
    spelled = [name for name in names if re.sub(r"\s", "", name) != name and re.sub(r"\s", "", name) in names]
    assert not spelled


@every_node
def test_no_help_page_has_an_english_word_that_is_no_name(name):
    page = (ROOT / "web" / "docs" / name / "zh.md").read_text(encoding="utf-8")
    lines = [line for line in page.split("\n") if re.search("[一-鿿]", line)]  # others are examples, or names
    assert not {line: found for line in lines if (found := english_words(line))}


def test_an_english_word_is_seen_where_it_stands():
    assert english_words("请选 none，或断开") == ["none"] and english_words("keep：保留") == ["keep"]
    assert not english_words("写成 `none`、“none”或 LoRA，见 a.json；秩（rank）")
