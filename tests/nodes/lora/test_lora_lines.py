"""web/lora_lines.mjs, which the canvas reads and writes the list with, against the parser of the node.

Runs in `node`, or in a Chromium that playwright can start.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest

from clip_vae_lora.lora.formats import list_text
from clip_vae_lora.lora.formats.list_text import ListError, LoRALine

FIELDS = {
    "on": "on",
    "name": "name",
    "model": "strength_model",
    "clip": "strength_clip",
    "blocks": "blocks",
    "words": "words",
}
PIECES = [
    "a",
    "b c",
    "style.safetensors",
    "people/anna",
    "off",
    "OFF ",
    "off ",
    "- ",
    "-",
    "offset",
    ":",
    " : ",
    " : ",
    " : ",
    " ",
    "\t",
    "\xa0",
    "\u3000",
    "\x1f",
    "\ufeff",
    "\u200b",
    "\x1c",
    "#",
    " #",
    "# c",
    "a#1",
    "0.5",
    "1_0",
    "1__0",
    "_1",
    "1_.5",
    "\u0661\u0662",
    "\U0001d7d8",
    "\uff11",
    "1e1",
    "1E-3",
    "1e3",
    "1e",
    "-100",
    "100.0001",
    "+2",
    "--2",
    "nan",
    "inf",
    "-Infinity",
    ".5",
    "5.",
    ".",
    "0x10",
    "1 0",
    "\xe9",
    "\U0001f600",
    "attn2: 0.5, IN07: 0",
]
ENDS = ["\n"] * 8 + ["\r\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\n\n", ""]
CHANGES = [
    {"on": True},
    {"on": False},
    {"name": "other.pt"},
    {"name": "- x"},
    {"name": "x:y"},
    {"name": "x #"},
    {"model": 0.25},
    {"clip": -3},
    {"model": 2, "clip": 2},
    {"model": 1, "clip": 0.5},
    {"blocks": ""},
    {"blocks": "attn2: 0.5, IN07-IN08: 0"},
    {"blocks": "a # b"},
    {"blocks": "a\nb"},
    {},
]


def made_line(rng: random.Random) -> str:
    if rng.random() < 0.5:
        parts = [rng.choice(PIECES) for _ in range(rng.randint(0, 7))]
        return "".join(parts)
    strengths = [rng.choice(["0.5", "1", "", "-2", "1e-3"]) for _ in range(rng.randint(0, 2))]
    name = rng.choice(["", "off ", "  - "]) + rng.choice(["a", "style.safetensors", "b c"])
    colon = rng.choice([":", " : ", ": "])
    blocks = ["attn2: 0"] if len(strengths) == 2 and rng.random() < 0.5 else []
    return colon.join([name, *strengths, *blocks]) + rng.choice(
        ["", "", " # note", "  ", " # words: b, c  d,", " #words:", "\t# x #\xa0words : b,b # y"]
    )


def made_lists(count: int, seed: int, ends: Sequence[str] = ENDS) -> list[str]:
    rng = random.Random(seed)
    return ["".join(made_line(rng) + rng.choice(ends) for _ in range(rng.randint(0, 6))) for _ in range(count)]


def as_canvas(line: LoRALine | ListError) -> dict | str:
    if isinstance(line, ListError):
        return "broken"
    found = {ours: getattr(line, theirs) for ours, theirs in FIELDS.items()}
    return found | {"words": None if line.words is None else list(line.words)}


def test_the_canvas_reads_every_list_as_the_node_does(js):
    lists = made_lists(6000, 1)
    lists += [
        "a\n" * 1001,
        "# c\n" * 1500 + "a\n" * 999,
        "",
        "\n",
        " ",
        "x" * 2000,
        "x" * 2001,
        "\U0001f600" * 2000,
        "\U0001f600" * 2001,
        "a " + " " * 2100 + "b",
        " " * 2001 + "b",
        "# " + "c" * 3000,
        "a : 1 #" + "c" * 3000,
        "a " + "x" * 1997 + " #",
        "a" * 1998 + " # over the edge",
    ]
    found = js("(L, lists) => lists.map(text => L.readList(text))", lists)
    told = 0
    for text, lines in zip(lists, found):
        assert [line["written"] for line in lines] == text.splitlines()
        expected = {one.number: as_canvas(one) for one in list_text.parse_each(text)}
        seen = {
            line["number"]: "broken" if line["kind"] == "broken" else {field: line[field] for field in FIELDS}
            for line in lines
            if line["kind"] in ("lora", "broken")
        }
        assert seen == expected, text
        told += sum(one != "broken" for one in seen.values())
    assert told > 6000  # the lists are not all nonsense


def test_an_edited_line_says_what_it_said_with_the_change_or_is_not_written_at_all(js):
    lines = list({line for text in made_lists(1500, 2) for line in text.splitlines()})
    edited = js(
        "(L, [lines, changes]) => lines.map(line => changes.map(change => L.editLine(line, change)))", [lines, CHANGES]
    )
    written = 0
    for line, results in zip(lines, edited):
        before = list_text.parse_each(line)
        if not before or isinstance(before[0], ListError):
            assert results == [None] * len(CHANGES)
            continue
        for change, result in zip(CHANGES, results):
            if result is None:
                continue
            written += 1
            assert list_text.parse(result) == [replace(before[0], **{FIELDS[name]: v for name, v in change.items()})]
            if all(as_canvas(before[0])[name] == value for name, value in change.items()):
                assert result == line
    assert written > 10_000


def test_an_ordinary_line_can_be_edited_in_every_way(js):
    lines = ["a", "a.safetensors : 0.5", "off a : 1 : 2 # note", "- people/anna:1", "a : : 2", "a :", "a : 1 : 1 : x"]
    changes = [
        change
        for change in CHANGES
        if change not in ({"name": "- x"}, {"name": "x:y"}, {"name": "x #"}, {"blocks": "a # b"}, {"blocks": "a\nb"})
    ]
    edited = js(
        "(L, [lines, changes]) => lines.map(line => changes.map(change => L.editLine(line, change)))", [lines, changes]
    )
    assert all(result is not None for results in edited for result in results)


@pytest.mark.parametrize(
    "line, change, expected",
    [
        ("a.pt : 1.0 : 1.0   # mine", {"model": 0.5}, "a.pt : 0.5 : 1.0   # mine"),
        ("a.pt : 1.0 : 1.0   # mine", {"on": False}, "off a.pt : 1.0 : 1.0   # mine"),
        ("  -  a :0.50: 2", {"on": True}, "  a :0.50: 2"),
        ("a", {"model": 0.5, "clip": 0.5}, "a : 0.5"),
        ("a", {"clip": 0.5}, "a : 1 : 0.5"),
        ("a : 0.5", {"blocks": "IN01: 0"}, "a : 0.5 : 0.5 : IN01: 0"),
        ("a:1:1:x: 2 # c", {"blocks": ""}, "a:1:1 # c"),
        ("a : 1 # c", {"name": "b/c.pt"}, "b/c.pt : 1 # c"),
        ("off - a", {"on": True}, None),  # `- a` would be off
    ],
)
def test_an_edit_changes_no_more_of_the_line_than_it_must(js, line, change, expected):
    assert js("(L, [line, change]) => L.editLine(line, change)", [line, change]) == expected


def test_lines_are_moved_removed_and_added_without_touching_the_others(js):
    rng = random.Random(3)
    jobs, expected = [], []
    for text in made_lists(800, 4, ["\n", "\r\n", "\n\n", "\x85", ""]):
        lines = text.splitlines()
        jobs.append(["addLine", text, "new : 1"])
        expected.append([*lines, "new : 1"])
        if lines:
            here, there = rng.randrange(len(lines)), rng.randrange(len(lines))
            moved = [line for place, line in enumerate(lines) if place != here]
            jobs += [["removeLine", text, here], ["moveLine", text, here, there], ["replaceLine", text, here, "x"]]
            expected += [moved, [*moved[:there], lines[here], *moved[there:]], [*lines[:here], "x", *lines[here + 1 :]]]
    results = js("(L, jobs) => jobs.map(([name, ...rest]) => L[name](...rest))", jobs)
    for job, text, lines in zip(jobs, results, expected):
        if lines and lines[-1] == "" and not ends_in_break(job[1]):
            assert text.splitlines() == lines[:-1]  # behind the last line break there is no empty line
            continue
        assert text.splitlines() == lines, job
        if job[1].splitlines() and lines:
            assert ends_in_break(text) == ends_in_break(job[1]), job


def ends_in_break(text: str) -> bool:
    return bool(text) and len((text + "x").splitlines()) > len(text.splitlines())


def test_a_name_is_added_only_where_the_list_can_hold_it(js):
    names = [
        "a.pt",
        "a b/c d.pt",
        "a:b.pt",
        "a #1.pt",
        "#a.pt",
        "off a.pt",
        "- a.pt",
        " a.pt",
        "a.pt ",
        "",
        "a\u2028b",
        "a#b",
    ]
    lines = js("(L, names) => names.map(L.lineOf)", names)
    assert [name for name, line in zip(names, lines) if line] == ["a.pt", "a b/c d.pt", "a#b"]
    assert all(
        asdict(list_text.parse(line)[0]) == asdict(LoRALine(1, name)) for name, line in zip(names, lines) if line
    )
