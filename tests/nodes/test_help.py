"""The help pages: for every node one in English and one in Chinese, each with a picture of the node after a run.

The canvas asks for web/docs/CVL_X/zh.md first and for web/docs/CVL_X.md where that is not there; either way pictures
are sought in web/docs. Its panel may be as narrow as 282 px, so tables have two columns and no long words.
"""

import json
import re
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from clip_vae_lora.tests.nodes.test_face import WIDGETS, default, locale, specs

ROOT = Path(__file__).resolve().parents[2]
HELP = ROOT / "web" / "docs"
WORDS = {  # what the same thing is called in a page of either language
    "en": {"inputs": "Inputs", "outputs": "Outputs", "input": "Input", "output": "Output", "what": "What it is"}
    | {"menu": "menu", "any": "any", "colon": ": "},
    "zh": {"inputs": "输入", "outputs": "输出", "input": "输入", "output": "输出", "what": "说明"}
    | {"menu": "菜单", "any": "任意", "colon": "："},
}
MENUS = json.loads((ROOT / "web" / "zh" / "menus.json").read_text(encoding="utf-8"))
_PICTURE = re.compile(r"!\[[^\]]+\]\(([A-Za-z0-9_]+\.png)\)")

every_node = pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
every_language = pytest.mark.parametrize("language", WORDS)


def page(name: str, language: str) -> str:
    path = HELP / f"{name}.md" if language == "en" else HELP / name / f"{language}.md"
    return path.read_text(encoding="utf-8")


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every table, its heading first."""
    blocks = re.findall(r"(?:^\|.*\n?)+", text, re.M)
    return [[cells(row) for row in block.strip().splitlines()] for block in blocks]


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the table under a heading, that of the columns first."""
    _, _, section = text.partition(f"\n## {heading}\n")
    (rows,) = tables(section.partition("\n## ")[0])
    return rows


def kind(of: str, language: str) -> str:
    """A type as a page writes it: COMBO is a menu, and several types have a blank between them, to be broken at."""
    return {"COMBO": WORDS[language]["menu"], "*": WORDS[language]["any"]}.get(of, ", ".join(of.split(",")))


# which there are


def test_there_are_pages_for_every_node_and_for_nothing_else():
    assert {path.stem for path in HELP.glob("*.md")} == set(NODE_CLASS_MAPPINGS)
    assert {path.parent.name for path in HELP.glob("*/*")} == set(NODE_CLASS_MAPPINGS)
    assert {path.name for path in HELP.glob("*/*")} == {"zh.md"}


def test_every_picture_beside_the_pages_is_shown_by_one_of_them_or_by_the_readme():
    shown = set(re.findall(r"web/docs/([\w.]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    shown |= {file for name in NODE_CLASS_MAPPINGS for file in _PICTURE.findall(page(name, "en"))}
    assert {path.name for path in HELP.iterdir() if path.is_file() and path.suffix != ".md"} <= shown


# what a page has


@every_language
@every_node
def test_a_page_begins_with_the_nodes_name_and_what_it_is_for(name, language):
    title, paragraph, picture, *_ = page(name, language).split("\n\n")
    names = NODE_DISPLAY_NAME_MAPPINGS if language == "en" else shown_names()
    assert title == f"# {names[name]}"
    assert paragraph[0] not in "|#!-" and paragraph.endswith((".", "。", "?"))
    assert f"({name}.png)" in picture


def shown_names() -> dict[str, str]:
    return {name: texts["display_name"] for name, texts in locale("nodeDefs.json").items()}


@every_node
def test_the_first_sentence_says_when_one_uses_the_node(name):
    paragraph = " ".join(page(name, "en").split("\n\n")[1].split())
    assert re.search(r"\b(use it|describe|for when|made? )", re.split(r"(?<=\.) ", paragraph)[0])


@every_language
@every_node
def test_a_page_has_neither_html_nor_links_but_pictures_that_are_there(name, language):
    text = page(name, language)
    assert all((HELP / file).is_file() for file in _PICTURE.findall(text))
    assert not re.search(r"<[A-Za-z/!]|https?:|\]\(", _PICTURE.sub("", text))


@every_language
@every_node
def test_a_page_tells_each_input_with_its_type_and_default(name, language):
    words = WORDS[language]
    heading, _, *rows = table(page(name, language), words["inputs"])
    assert heading == [words["input"], words["what"]] and len(rows) == len(specs(name))
    for (key, (of, _, _)), (cell, text) in zip(specs(name).items(), rows):
        said, _, written = cell.partition(words["colon"])
        assert said == f"{label(name, 'inputs', key, language)}`{key}` {kind(of, language)}"
        assert bool(written) == (of in WIDGETS or isinstance(of, list)), f"{key}: a widget has a default, no socket has"
        if written.startswith("`") or isinstance(of, list):
            assert written == shown(str(default(name, key)), language, of), key
        assert len(text) > 3, key


def label(name: str, side: str, key: str, language: str) -> str:
    """What stands before the name of an input or an output: as its node calls it in Chinese."""
    return "" if language == "en" else f"**{locale('nodeDefs.json')[name][side][key]['name']}** "


def shown(value: str, language: str, of: object) -> str:
    """A default as a page writes it: the value of a menu as the menu shows it."""
    said = MENUS.get(value, value) if language == "zh" and isinstance(of, list) else value
    return f"`{value}`" if said == value else said


@every_language
@every_node
def test_a_page_tells_each_output_with_its_type(name, language):
    node, words = NODE_CLASS_MAPPINGS[name], WORDS[language]
    heading, _, *rows = table(page(name, language), words["outputs"])
    assert heading == [words["output"], words["what"]]
    pairs = enumerate(zip(node.RETURN_NAMES, node.RETURN_TYPES))
    expected = [f"{label(name, 'outputs', str(at), language)}`{key}` {kind(of, language)}" for at, (key, of) in pairs]
    assert [row[0] for row in rows] == expected and all(len(row[1]) > 1 for row in rows)


@every_language
@every_node
def test_a_table_fits_the_panel_because_no_column_has_a_long_word(name, language):
    for rows in tables(page(name, language)):
        longest = [max(map(unbroken, column)) for column in zip(*rows)]
        assert len(rows[0]) <= 3 and sum(longest) <= 33, longest


def unbroken(cell: str) -> int:
    """The letters of the longest piece of a text between places where a browser breaks a line."""
    return max(map(len, re.split(r"[\s/\-\u3000-\u9fff\uff00-\uffef]", cell)))


# the two languages


@every_node
def test_the_chinese_page_has_what_the_english_one_has(name):
    def outline(text: str) -> tuple:
        headings = [len(level) for level in re.findall(r"^(#+) ", text, re.M)]
        points = len(re.findall(r"^(?:-|\d+\.) ", text, re.M))
        return headings, [[len(row) for row in rows] for rows in tables(text)], _PICTURE.findall(text), points

    assert outline(page(name, "zh")) == outline(page(name, "en"))


@every_node
def test_the_chinese_page_is_in_chinese(name):
    text = re.sub(r"`[^`]*`", "", page(name, "zh"))
    prose = [part for part in text.split("\n\n") if not part.startswith(("|", "!", "#"))]
    rows = [row[-1] for rows in tables(text) if rows[0][-1] in ("说明", "怎么办") for row in rows[2:]]
    assert prose and all(re.search(r"[\u4e00-\u9fff]", part) for part in [*prose, *rows])
    assert not re.search(r"[\u4e00-\u9fff] ?[,;!?](?!\w)", text), "a Chinese sentence has Chinese marks"


# the pictures


@every_node
def test_a_picture_shows_something(name):
    with Image.open(HELP / f"{name}.png") as opened:
        assert opened.format == "PNG" and opened.width <= 420
        picture = opened.convert("RGB")
    assert (HELP / f"{name}.png").stat().st_size <= 40_000
    assert shows_something(picture)


def shows_something(picture: Image.Image) -> bool:
    """Whether it is neither nearly black nor nearly of one colour: a letter differs from what is behind it."""
    grey = picture.convert("L")
    commonest = max(grey.histogram()) / (grey.width * grey.height)
    return ImageStat.Stat(grey).mean[0] > 25 and ImageStat.Stat(grey).stddev[0] > 10 and commonest < 0.9


@pytest.mark.parametrize("colour", ["black", "white", (40, 40, 40)])
def test_a_picture_of_one_colour_shows_nothing(colour):
    assert not shows_something(Image.new("RGB", (300, 200), colour))
