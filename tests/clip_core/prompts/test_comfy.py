"""The prompt dialect by laws and by example; beside ComfyUI's own: tests/host/text/test_prompt_parity.py."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_vae_lora.clip_core.prompts.comfy import Span, cut_at_breaks, parse, split_embedding, stretches

from ...support.growth import check_linear


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("", []),
        ("a cat", [("a cat", 1.0)]),
        ("a (cat)", [("a ", 1.0), ("cat", 1.1)]),
        ("((cat))", [("cat", 1.1 * 1.1)]),
        ("(cat:1.5)", [("cat", 1.5)]),
        ("(cat: 1.5 )", [("cat", 1.5)]),
        ("((cat:1.5) dog:2)", [("cat", 1.5), (" dog", 2.0)]),
        ("(cat:dog)", [("cat:dog", 1.1)]),
        ("(a:b:2)", [("a:b", 2.0)]),
        ("(:2)", [(":2", 1.1)]),
        ("()", []),
        (r"\(cat\)", [("(cat)", 1.0)]),
        ("(cat", [("(cat", 1.0)]),
        ("cat)", [("cat)", 1.0)]),
        ("((cat)", [("(cat", 1.1)]),
        (") (cat)", [(") (cat)", 1.0)]),
        ("[cat]", [("[cat]", 1.0)]),
        ("a embedding:x, b", [("a ", 1.0), ("embedding:x, b", 1.0)]),
        ("a,embedding:x", [("a,embedding:x", 1.0)]),
    ],
)
def test_the_dialect(text, spans):
    assert parse(text) == [Span(*span) for span in spans]


@given(st.text(st.characters(exclude_characters="()\\:\0\1")))
def test_without_parentheses_all_is_one_emphasis(text):
    assert {span.emphasis for span in parse(text)} <= {1.0}
    assert "".join(span.text for span in parse(text)) == text


def textbook(text, emphasis=1.0, outermost=True):
    """ComfyUI's grammar in its recursive form: each level is read again for the levels inside it."""
    if outermost:
        text = text.replace("\\)", "\0\1").replace("\\(", "\0\2")
    parts, depth, start = [], 0, 0
    for place, sign in enumerate(text):
        if sign == "(":
            if depth == 0:
                parts.append(text[start:place])
                start = place
            depth += 1
        elif sign == ")":
            depth -= 1
            if depth == 0:
                parts.append(text[start : place + 1])
                start = place + 1
    spans = []
    for part in filter(None, [*parts, text[start:]]):
        if not (len(part) > 1 and part[0] == "(" and part[-1] == ")"):
            part = part.replace("\0\1", ")").replace("\0\2", "(")
            spans += [Span(piece, emphasis) for piece in re.split(r"(?<=\s)(?=embedding:)", part) if piece]
            continue
        inner, colon, number = part[1:-1].rpartition(":")
        try:
            spans += textbook(inner, float(number if inner else ""), False)
        except ValueError:
            spans += textbook(part[1:-1], emphasis * 1.1, False)
    return spans


PIECES = [
    "(",
    ")",
    "(",
    ")",
    ":",
    "a",
    " ",
    ":1.2)",
    ": -1 )",
    ":1_0)",
    "\\(",
    "\\)",
    "\\",
    "embedding:x",
    "\0\1",
    "[b]",
]


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=16).map("".join))
def test_one_scan_gives_what_the_recursive_grammar_gives(text):
    assert parse(text) == textbook(text)


@given(st.lists(st.sampled_from(PIECES), max_size=16).map("".join))
def test_stretches_stand_where_they_say(text):
    found, strays = stretches(text)
    assert all(text[stray.place] in "()" for stray in strays)
    for before, behind in itertools.pairwise(found):
        assert before.end <= behind.start
    for stretch in found:
        written = text[stretch.start : stretch.end].replace("\\)", "\0\1").replace("\\(", "(")
        assert written.replace("\0\1", ")") == stretch.text


def test_nesting_ever_so_deep_is_no_error():
    assert parse("(" * 3000 + "cat" + ")" * 3000)[0].text == "cat"


LONG = {  # a text about as long as `size`
    "open": lambda size: "(" * size,
    "closed": lambda size: ")" * size,
    "nested": lambda size: "(" * (size // 2) + ")" * (size // 2),
    "one short": lambda size: "((" * (size // 4) + ")" * (size // 2 - 1),
    "words between": lambda size: "(a" * (size * 3 // 10) + ":1.1)" * (size * 8 // 100),
    "colons": lambda size: "(:a" * (size // 4) + ")" * (size // 4),
    "a long number": lambda size: "(" * (size // 3) + "a:" + "1" * (size // 3) + ")" * (size // 3),
    "side by side": lambda size: ")(" * (size // 2),
    "blanks": lambda size: "a" + " " * size,
    "embeddings": lambda size: " embedding:" * (size // 11),
}


@pytest.mark.slow
@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_hundred_kilobytes_take_no_quadratic_time(text):
    check_linear(lambda size: (parse(text(size)), cut_at_breaks(text(size))), 100_000)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("a (b) c", []),
        (r"\( a", []),
        ("a) (b:1.2)", [1]),
        ("a)) b", [1, 2]),
        ("a (b, (c:1.2) d", [2]),
        ("a (b, (c:1.2)", [2, 6]),
        ("a) b ( c (d)", [1, 5]),
    ],
)
def test_strays_are_the_parentheses_that_did_not_do_what_they_look_like(text, places):
    assert [stray.place for stray in stretches(text)[1]] == places


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a", ["a"]),
        (" a ", [" a "]),
        ("a BREAK\n b", ["a", "b"]),
        ("BREAK BREAK", ["", "", ""]),
        ("aBREAK b", ["aBREAK b"]),
        ("a,BREAK,b", ["a,", ",b"]),
        ("embedding:BREAK b", ["embedding:BREAK b"]),
    ],
)
def test_break_is_a_word_of_its_own_and_takes_the_blanks_around_it(text, pieces):
    assert cut_at_breaks(text) == pieces


@pytest.mark.parametrize(
    ("text", "name", "rest"),
    [
        ("embedding:x", "x", ""),
        ("embedding:x, a  cat", "x,", "a cat"),
        ("embedding:x<lora:y>", "x", "<lora:y>"),
        ("embedding:x[a] b", "x", "[a] b"),
        ("embedding:", "", ""),
    ],
)
def test_the_name_of_an_embedding_ends_at_a_blank_or_a_bracket(text, name, rest):
    assert split_embedding(text) == (name, rest)
