"""A1111's grammar beside what that program itself made of 2,000 prompts (a1111_reference.md), and by laws."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_vae_lora.clip_core.prompts.a1111 import merged, stretches
from clip_vae_lora.clip_core.prompts.comfy import CHUNK_END, Span

from ...support.growth import check_linear

REFERENCE = Path(__file__).with_name("a1111_reference.json.gz")
PIECES = [
    "(",
    ")",
    "[",
    "]",
    "(",
    ")",
    ":",
    ":1.2)",
    ": -.5 )",
    ":0)",
    ":1.2.3)",
    "a",
    " ",
    "\\",
    "\\(",
    "\\]",
    " BREAK ",
]
PAIRS = st.sampled_from([("(", ")"), ("[", "]"), ("(", ":1.5)"), ("(", ":-2)")])
BALANCED = st.recursive(
    st.sampled_from(["a", "b ", ", "]),
    lambda inner: st.tuples(PAIRS, st.lists(inner, max_size=4)).map(lambda x: x[0][0] + "".join(x[1]) + x[0][1]),
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


def parse(text):
    return merged(stretches(text)[0])


def test_spans_are_those_of_the_program_itself():
    known = json.loads(gzip.decompress(REFERENCE.read_bytes()))
    assert len(known["prompts"]) == 2000
    for text, spans in zip(known["prompts"], known["spans"], strict=True):
        ours = [["BREAK", -1] if span == CHUNK_END else [span.text, span.emphasis] for span in parse(text)]
        assert ours == spans, text  # bit by bit: the weights are multiplied in the same order


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("", [("", 1.0)]),
        ("a (b) [c]", [("a ", 1.0), ("b", 1.1), (" ", 1.0), ("c", 1 / 1.1)]),
        ("((a:1.5)b:2)", [("a", 3.0), ("b", 2.0)]),
        ("(a: 1.5 )", [("a", 1.5)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1.1 * (1 / 1.1)), (" c", 1 / 1.1)]),
        ("(a", [("a", 1.1)]),
        ("a)]:1.5)", [("a)]:1.5)", 1.0)]),
        (r"\(a\]\\ \b", [("(a]\\ b", 1.0)]),
        ("(a)(b)", [("ab", 1.1)]),
        ("(a BREAK b:1.2)", [("a", 1.2), ("BREAK", -1.2), ("b", 1.2)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("(a:1e1)", [("a:1e1", 1.1)]),
    ],
)
def test_the_dialect(text, spans):
    assert parse(text) == [Span(*span) for span in spans]


def test_break_closes_a_chunk_and_takes_the_blanks_around_it():
    assert parse("a BREAK\nb") == [Span("a"), CHUNK_END, Span("b")]
    assert parse("BREAK") == [Span(""), CHUNK_END, Span("")]


def test_what_looks_like_a_break_of_the_right_weight_is_one_as_in_the_original():
    assert parse(r"(BRE\AK:-1)") == [CHUNK_END]


@settings(deadline=None)
@given(BALANCED)
def test_emphases_deep_inside_are_those_outside_but_for_rounding(text):
    deep = 70  # brackets that change nothing, more than are multiplied in the original's order
    inside, outside = stretches("(" * deep + text + ":1.0)" * deep)[0], stretches(text)[0]
    assert [stretch.text for stretch in inside] == [stretch.text for stretch in outside]
    assert [stretch.emphasis for stretch in inside] == pytest.approx(
        [stretch.emphasis for stretch in outside], rel=1e-13
    )


def test_beyond_the_exact_depth_the_product_is_the_same_but_for_rounding():
    for depth in (60, 64, 65, 66, 100):
        found = parse("(" * depth + "a" + ")" * depth)
        assert found[0].emphasis == pytest.approx(1.1**depth, rel=1e-13)  # a rounding of 1e-16 a bracket
    mixed = parse("[" * 40 + "(" * 40 + "a" + ":1.5)" * 40 + "]" * 40)
    assert mixed[0].emphasis == pytest.approx((1.5 / 1.1) ** 40, rel=1e-13)


@given(TEXTS)
def test_no_text_is_lost_and_strays_are_brackets(text):
    found, strays = stretches(text)
    assert all(text[stray.place] in "()[]" for stray in strays)
    assert sum(stretch.text.count("a") for stretch in found) == text.count("a")
    assert "".join(span.text for span in parse(text)).count("a") == text.count("a")


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("(a [b) c]", []),
        (r"\) a", []),
        ("a) (b", [1, 3]),
        ("a:1.2) b]", [5, 8]),
        ("[a ((b)", [0, 3]),
    ],
)
def test_strays_are_the_brackets_without_a_partner(text, places):
    assert sorted(stray.place for stray in stretches(text)[1]) == places


LONG = {  # a text about as long as `size`
    "open": lambda size: "(" * size,
    "closed": lambda size: ")" * size,
    "nested": lambda size: "(" * (size // 2) + ")" * (size // 2),
    "words between": lambda size: "(a" * (size * 3 // 10) + ":1.0)" * (size * 8 // 100),
    "both kinds": lambda size: "(a[b" * (size // 10) + ")c]" * (size // 5),
    "as deep as exact": lambda size: "(" * 64 + "a(b)" * (size // 4),
    "a long number": lambda size: ":" + "1" * size,
    "colons": lambda size: ": " * (size // 2),
    "blanks behind a colon": lambda size: ":" + " " * size,
    "blanks": lambda size: "a" + " " * size + "b",
    "breaks": lambda size: "BREAK " * (size // 6),
    "backslashes": lambda size: "\\" * size,
}


@pytest.mark.slow
@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_hundred_kilobytes_take_no_quadratic_time(text):
    check_linear(lambda size: parse(text(size)), 100_000)
