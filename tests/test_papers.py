"""README, CONTRIBUTING and the help pages: the paths they name exist, and what they say of the house is so."""

import re
from textwrap import dedent

import pytest

from .test_layers import MAY_IMPORT, ROOMS, ROOT, sources

README, CONTRIBUTING = "README.md", "CONTRIBUTING.md"
PAPERS = [
    *(README, CONTRIBUTING, "CHANGELOG.md", "headless/README.md", "models/README.md", "headless/many_cards.md"),
    "example_workflows/input/README.md",
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "web" / "docs").glob("*.md"))),
]
FOLDERS = {path.parent.relative_to(ROOT).as_posix() for path in sources()} - {"."}  # those that hold code
TOPS = {folder for folder in FOLDERS if "/" not in folder}
MADE = {"build", ".venv"}  # folders that are there only once something was run
_WORD = re.compile(r"[\w./*-]+")
_FILE = re.compile(r"[\w-]+\.(py|mjs|js|json|md|toml|yml|yaml|txt|gz|png|jpg|safetensors)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(paper: str) -> str:
    return (ROOT / paper).read_text(encoding="utf-8")


def section(paper: str, heading: str) -> str:
    return text_of(paper).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def pictures(paper: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(paper), re.M | re.S)
    return [block for language, block in blocks if not language and "nodes/host/" in block]


def table(text: str) -> list[list[str]]:
    """The cells of the rows of a text's tables, their headings left out."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# paths


def named(text: str) -> list[str]:
    """The paths in backticks and in blocks of commands: words with a slash that begin as something of ours is called,
    or that end as a file of code does.
    """
    entries = {path.name for path in ROOT.iterdir()} | TOPS
    spans = [
        *re.findall(r"```sh\n(.*?)```", text, re.S),
        *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S)),
    ]
    words = [word.rstrip(".") for span in spans for word in _WORD.findall(span) if "/" in word]
    return [
        word for word in words if word.split("/")[0] in entries - MADE or word.endswith((".py", ".mjs", ".js", ".md"))
    ]


def test_paths_are_found_where_they_are_named():
    commands = "```sh\npython headless/run.py in/out.json\n```\n"
    text = "`nodes/x.py` and `gone/y.py`, `nodes/`, no/path.py\n" + commands + "```\ntests/a\n```"
    assert named(text) == ["headless/run.py", "nodes/x.py", "gone/y.py", "nodes/"]


@pytest.mark.parametrize("paper", PAPERS)
def test_every_path_that_a_paper_names_is_there(paper):
    missing = [word for word in named(text_of(paper)) if not word.startswith("/") and not (ROOT / word).exists()]
    assert not missing


@pytest.mark.parametrize("paper", PAPERS)
def test_every_link_leads_to_a_file_that_is_there(paper):
    links = [link for link in _LINK.findall(text_of(paper)) if not link.startswith(("http:", "https:", "#"))]
    assert not [link for link in links if not ((ROOT / paper).parent / link).exists()]


@pytest.mark.parametrize("paper", [README, CONTRIBUTING])
def test_a_file_that_is_named_without_its_folder_is_somewhere(paper):
    names = {
        path.name for folder in (*FOLDERS, ".", "web", "locales/zh", "tests") for path in (ROOT / folder).iterdir()
    }
    names |= {path.name for path in (ROOT / "models").iterdir()}
    bare = [word for word in quoted(re.sub(r"```.*?```", "", text_of(paper), flags=re.S)) if _FILE.fullmatch(word)]
    assert set(bare) <= names


# the house


def test_the_picture_of_the_house_is_the_same_in_both_papers():
    (readme,), (contributing,) = pictures(README), pictures(CONTRIBUTING)
    assert readme == contributing


def test_the_picture_shows_every_folder_of_code_above_those_it_imports():
    (picture,) = pictures(README)
    places = {}
    for number, line in enumerate(picture.splitlines()):
        for folder in re.findall(r"(?<![\w/])([a-z_]+(?:/[a-z_]+)*)/(?!\w)", line):
            assert places.setdefault(folder, number) == number, f"{folder} stands twice"
    shown = TOPS | {f"nodes/{room}" for room in ROOMS["nodes"]}
    assert shown <= set(places) <= FOLDERS
    for folder, others in MAY_IMPORT.items():
        if folder.endswith(".py"):  # a way in, not a folder
            continue
        assert all(places[folder] < places[other] for other in others), folder
    assert all(places["nodes"] < places[f"nodes/{room}"] < places["training"] for room in ROOMS["nodes"])
    assert all(places["nodes/host"] >= places[f"nodes/{room}"] for room in ROOMS["nodes"])


def test_the_table_has_a_row_for_every_folder_of_code_and_no_other():
    rows = [quoted(row[0])[0].rstrip("/") for row in table(section(CONTRIBUTING, "The house"))]
    assert len(rows) == len(set(rows)) and set(rows) == FOLDERS


def test_a_row_names_what_its_folder_may_import():
    for name, _, imports in table(section(CONTRIBUTING, "The house")):
        folder = name.strip("`").rstrip("/")
        top, _, room = folder.partition("/")
        if imports.startswith("as "):
            (other,) = quoted(imports)
            assert folder.startswith(other) and room not in ROOMS.get(top, {}), folder
            continue
        expected = ROOMS[top][room] if room else MAY_IMPORT[top]
        assert set(quoted(imports)) == expected and (imports == "nothing") == (not expected), folder


def test_the_readmes_table_names_every_folder_at_the_top():
    rows = table(section(README, "Reading the code"))
    shown = [name.rstrip("/") for row in rows for name in quoted(row[0])]
    others = {"web", "locales", "models", "example_workflows", "tests", "benchmarks"}
    assert len(shown) == len(set(shown)) and set(shown) == TOPS | others


# what is shown and promised


def python_blocks() -> list[tuple[str, str]]:
    """(the section, the code) of every block of Python in CONTRIBUTING."""
    parts = re.split(r"^## ", text_of(CONTRIBUTING), flags=re.M)
    return [(part, code) for part in parts for code in re.findall(r"^ *```python\n(.*?)^ *```$", part, re.M | re.S)]


def flat(code: str) -> str:
    return "\n".join(line.strip() for line in dedent(code).strip().splitlines())


@pytest.mark.parametrize("part, code", python_blocks(), ids=lambda value: value.strip().splitlines()[0])
def test_code_that_is_shown_stands_in_a_file_that_its_section_links(part, code):
    linked = [ROOT / link for link in _LINK.findall(part) if link.endswith(".py")]
    assert any(flat(code) in flat(path.read_text(encoding="utf-8")) for path in linked)


def test_every_section_that_adds_something_ends_in_tests_that_are_there():
    for heading in re.findall(r"^## (Add .*)$", text_of(CONTRIBUTING), re.M):
        assert re.search(r"tests/\w+", section(CONTRIBUTING, heading)), heading


def test_every_setting_that_is_named_is_read_somewhere():
    names = set(re.findall(r"\b(?:CVL|COMFYUI)_[A-Z_]+\b", text_of(README) + text_of(CONTRIBUTING)))
    read = "".join(
        path.read_text(encoding="utf-8") for top in ("tests", "benchmarks") for path in (ROOT / top).rglob("*.py")
    )
    assert len(names) >= 4 and not [name for name in names if not re.search(rf'environ.*"{name}"', read)]


def test_every_name_of_code_in_contributing_is_in_the_code():
    words = {
        word for word in quoted(re.sub(r"```.*?```", "", text_of(CONTRIBUTING), flags=re.S)) if word.isidentifier()
    }
    code = "".join(path.read_text(encoding="utf-8") for top in (*TOPS, "tests") for path in (ROOT / top).rglob("*.py"))
    known = {"packages", "pretended", "custom_nodes"}
    assert not [word for word in words - known if not re.search(rf"\b{word}\b", code)]
