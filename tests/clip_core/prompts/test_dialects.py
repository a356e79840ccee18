"""Reading a prompt in a dialect: parts, spans, and the notes a user gets."""

from contextlib import suppress
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_vae_lora.clip_core.prompts import a1111, comfy, dialects
from clip_vae_lora.clip_core.prompts.comfy import CHUNK_END, Span
from clip_vae_lora.clip_core.prompts.dialects import DIALECTS, Part, PromptError, read

from ...support.growth import check_linear

PIECES = ["(", ")", "[", "]", ":1.2)", ":1e1)", "\\", "\\(", " BREAK ", " CONCAT ", "AVERAGE(0.3)", "AND", "<lora:x:1>"]
PIECES += ["cat", " ", ", ", "embedding:x", " embedding:y", "[a:b:0.5]", "[a|b]", "（", "\ud800", "\n"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


def spans(text, dialect="comfy", join_words=False):
    (part,) = read(text, dialect, join_words).parts
    return list(part.spans)


def notes(text, dialect="comfy", join_words=False):
    return " / ".join(read(text, dialect, join_words).notes)


@given(TEXTS)
def test_comfy_without_joining_words_is_what_comfyui_reads(text):
    assert spans(text) == comfy.parse(text)
    assert read(text).parts[0].text == text


@given(TEXTS.map(lambda text: text.replace("embedding", "")))
def test_a1111_without_joining_words_is_what_a1111_reads(text):
    assert spans(text, "a1111") == [
        span for span in a1111.merged(a1111.stretches(text)[0]) if span.text or span.closes_chunk
    ]


PLAIN = st.sampled_from(
    ["(cat)", "(cat:1.2)", "(a:b)", "(a:b:1.2)", "(cat: 1.2)", "(:1.2)", "()", "(cat:.5)", "(cat:5.)", "(cat:-0.5)"]
    + ["(cat:+1)", "(cat:1e1)", "(cat:1.2.3)", "(a BREAK b:1.2)", "(BREAK)", " BREAK ", "cat", ":1.2", ": ", "\0\1"]
    + ["(cat:1_0)", "(cat:٣)", "(cat\n:1.2)", "(embedding:x:1.2)", " ", "\\", "(", ")", "(c (d:0.5))", "[e]"]
)


@given(st.lists(PLAIN, max_size=6).map("".join), st.sampled_from(list(DIALECTS)), st.booleans())
def test_where_the_other_grammar_is_not_asked_it_would_have_said_nothing(text, dialect, join_words):
    with suppress(PromptError):
        found = read(text, dialect, join_words)
        with patch.object(dialects, "_reads_alike", lambda text: False):
            assert read(text, dialect, join_words) == found


@given(
    st.lists(
        PLAIN | st.sampled_from([*PIECES, "(cat:9.99)", "(cat:-9)", "(AND)", "x AND", ":", "(red fox:1.3)", "(a)"])
    ).map("".join),
    st.sampled_from(list(DIALECTS)),
    st.booleans(),
)
def test_a_text_that_is_not_searched_has_no_oddity(text, dialect, join_words):
    with suppress(PromptError):
        found = read(text, dialect, join_words)
        with patch.object(dialects, "_is_usual", lambda text: False):
            assert read(text, dialect, join_words) == found


def test_a_usual_prompt_is_not_searched_for_oddities():
    with patch.object(dialects.oddities, "find", side_effect=AssertionError):
        assert read("a photo of a (red:1.3) fox (in the snow), 8k").notes == ()


@settings(deadline=None)
@given(TEXTS, st.sampled_from([*DIALECTS]), st.booleans())
def test_a_reading_has_parts_and_notes_of_one_line(text, dialect, join_words):
    reading = read(text, dialect, join_words)
    assert reading.parts[0].join == "" and all(part.join for part in reading.parts[1:])
    assert all(note and "\n" not in note for note in reading.notes)
    assert all(span.text or span.closes_chunk for part in reading.parts for span in part.spans)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("join_words", [False, True])
@pytest.mark.parametrize("text", ["", "a photo of a cat, 16:9, it's 10:30", r"a (red:1.3) fox \(animal\), ((sky))"])
def test_an_ordinary_prompt_has_no_notes(text, dialect, join_words):
    assert read(text, dialect, join_words).notes == ()


def test_the_empty_prompt_is_one_part_without_spans():
    assert read("").parts == (Part("", ()),)


def test_words_of_joining_cut_the_prompt():
    reading = read("a cat CONCAT (b:1.2) AVERAGE(0.3) c CONCAT(0.5)d AVERAGE e", join_words=True)
    assert reading.parts == (
        Part("a cat", (Span("a cat"),)),
        Part("(b:1.2)", (Span("b", 1.2),), "CONCAT", 1.0),
        Part("c", (Span("c"),), "AVERAGE", 0.3),
        Part("d", (Span("d"),), "CONCAT", 0.5),
        Part("e", (Span("e"),), "AVERAGE", 0.5),
    )
    assert reading.notes == ()


@pytest.mark.parametrize("text", ["concat a", "CONCATENATE a", "MY_CONCAT a", "embedding:CONCAT"])
def test_only_the_word_itself_joins(text):
    assert len(read(text, join_words=True).parts) == 1


def test_brackets_that_hold_no_number_are_the_next_parts_own():
    assert read("a CONCAT(b:1.2)", join_words=True).parts[1] == Part("(b:1.2)", (Span("b", 1.2),), "CONCAT", 1.0)


def test_break_works_in_comfy_when_joined_and_keeps_the_emphasis_around_it():
    assert spans("(a BREAK b:1.2) BREAK c", join_words=True) == [
        Span("a", 1.2),
        CHUNK_END,
        Span("b", 1.2),
        CHUNK_END,
        Span("c"),
    ]
    assert spans("(a BREAK b:1.2)") == [Span("a BREAK b", 1.2)]


@pytest.mark.parametrize("join_words", [False, True])
def test_break_is_a1111s_own(join_words):
    assert spans("BREAK a BREAK b", "a1111", join_words) == [CHUNK_END, Span("a"), CHUNK_END, Span("b")]
    assert spans("(a BREAK b:1.2)", "a1111", join_words) == [Span("a", 1.2), Span("BREAK", -1.2), Span("b", 1.2)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_embedding_begins_its_own_span(dialect):
    assert spans("a embedding:x, (embedding:y:1.2)", dialect) == [
        Span("a "),
        Span("embedding:x, "),
        Span("embedding:y", 1.2),
    ]


@pytest.mark.parametrize(
    ("text", "dialect", "note"),
    [
        ("a (cat, (b:1.2) c", "comfy", "the bracket ( at character 3 is never closed: it and what follows it are text"),
        (
            "a (cat",
            "a1111",
            "the bracket ( at character 3 is never closed: all that follows it counts 1.1 times as much",
        ),
        ("a [cat", "a1111", "the bracket [ at character 3 is never closed: all that follows it counts 1.1 times less"),
        ("a), (b:1.5)", "comfy", "the bracket ) at character 2 closes nothing: the outermost brackets behind it"),
        ("a (b, (c:1.2)", "comfy", "the bracket ( at character 3 has no ) of its own and takes the last one"),
        ("a cat :)", "comfy", "the bracket ) at character 8 closes nothing and is text"),
        ("Embedding:x", "comfy", '"Embedding:x" at character 1: text; an embedding is written with "embedding:"'),
        ("a), b:1.5)", "a1111", "the bracket ) at character 10 closes nothing and is text, and so is the weight"),
        ("((house:1.3) b:1.1)", "comfy", '"house" 1.3 here and 1.43 in A1111'),
        ("((house:1.3) b:1.1)", "a1111", '"house" 1.43 here and 1.3 in ComfyUI'),
        ("(ten:1e1)", "a1111", '"ten" 1.1 here and 10 in ComfyUI'),
        ("a [cat]", "comfy", '"[cat]" at character 3: square brackets are text'),
        ("(cat:1,2)", "comfy", '":1,2" at character 5: no number'),
        ("(cat:1.2.3)", "a1111", '":1.2.3" at character 5: no number'),
        ("(cat:nan)", "a1111", '":nan" at character 5: no number'),
        ("cat:1.4, dog", "comfy", '":1.4" at character 4: text, no weight'),
        ("(cat:1.4, dog)", "a1111", '":1.4" at character 5: text, no weight'),
        ("(at 10:30)", "comfy", '"at 10" has 30'),
        ("(a:-11)", "a1111", '"a" has -11'),
        ("[a:b:0.5]", "a1111", '"[a:b:0.5]" at character 1: text here, no change of words'),
        ("[a:0.5]", "comfy", '"[a:0.5]" at character 1: text here, no change of words'),
        ("[a|b]", "comfy", '"[a|b]" at character 1: text here, the words do not take turns'),
        ("a AND b", "a1111", '"AND" at character 3: a plain word here'),
        ("a <lora:x:0.8>", "comfy", '"<lora:x:0.8>" at character 3: text here, nothing is loaded'),
        ("a BREAK b", "comfy", '"BREAK" at character 3: a plain word here'),
        ("a CONCAT b", "a1111", '"CONCAT" at character 3: a plain word here'),
        ("(a BREAK b:1.2)", "a1111", '"BREAK" at character 4 in brackets (weight -1.2): a plain word'),
        ("a,embedding:x", "comfy", '"a,embedding:x": text; an embedding needs a blank'),
        ("embedding:x", "a1111", '"embedding:x": read as an embedding here; A1111 itself'),
        (r"\[a\]", "comfy", r'"\[" at character 1, "\]" at character 4: the backslash stays'),
        (r"a\n", "a1111", r'"\n" at character 2: the backslash is dropped'),
        ("（猫：1.2）", "comfy", '"（" at character 1, "：" at character 3, "）" at character 7: full-width'),
    ],
)
def test_what_is_odd_is_said(text, dialect, note):
    assert note in notes(text, dialect)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("a AVERAGE(1.5) b", '"AVERAGE(1.5)" at character 3: AVERAGE mixes between 0'),
        ("(a CONCAT b:1.2)", '"CONCAT" at character 4: inside brackets, which end there'),
        ("a CONCAT b)", "the bracket ) at character 11 closes nothing"),
        ("a AVERAGE(0,3) b", '"AVERAGE" at character 3 counts 0.5: the bracket behind it is text'),
        ("a AVERAGE (0.3) b", '"AVERAGE" at character 3 counts 0.5: the bracket behind it is text'),
        ("a CONCAT", "CONCAT at character 3: no text on one side"),
        ("CONCAT a", "CONCAT at character 1: no text on one side"),
    ],
)
def test_what_is_odd_about_joining_is_said_with_places_of_the_whole_prompt(text, note):
    assert note in notes(text, join_words=True)


def test_a_weighted_bracket_apart_from_a_joining_word_is_no_weight_of_it():
    assert "counts" not in notes("a CONCAT (b:1.2) AVERAGE (c) d", join_words=True)


def test_long_lists_are_cut_and_say_how_many_more():
    assert notes("[a] " * 9).count("at character") == 5
    assert "and 4 more" in notes("[a] " * 9)
    assert "3 more brackets have no partner" in notes(")" * 8)
    assert len(notes("<lora:" + "x" * 500 + ">")) < 200


@pytest.mark.parametrize(
    ("text", "dialect", "join_words"),
    [
        ("(a:nan)", "comfy", False),
        ("(a:-inf)", "comfy", False),
        ("(" * 10_000 + "a" + ")" * 10_000, "comfy", False),
        ("(" * 10_000 + "a" + ")" * 10_000, "a1111", False),
        ("(a:" + "9" * 400 + ")", "a1111", False),
        ("a AVERAGE(nan) b", "comfy", True),
        ("a CONCAT(1e999) b", "a1111", True),
    ],
)
def test_weights_that_are_not_finite_are_refused_in_a_sentence(text, dialect, join_words):
    with pytest.raises(PromptError, match="finite") as refusal:
        read(text, dialect, join_words)
    assert len(str(refusal.value)) < 250


def test_an_unknown_dialect_is_refused():
    with pytest.raises(PromptError, match="comfy, a1111"):
        read("a", "novelai")


LONG = [
    "(a:1) ",
    "[a ",
    "CONCAT a) ",
    " ",
    "\\",
    "[",
    ":1",
    "embedding:",
    "<lora:",
    "BREAK ",
    "AVERAGE(",
    "a,",
    "a-",
    "_",
    "1",
]


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("repeated", LONG)
def test_a_hundred_kilobytes_take_no_quadratic_time(repeated, dialect):
    def read_long(size):
        with suppress(PromptError):  # too many joined parts
            read("a: " + repeated * (size // len(repeated)), dialect, True)

    check_linear(read_long, 100_000)


def test_the_gravest_note_stands_first_and_the_mildest_last():
    notes = read("(a [b) <lora:x:1> (red:1,2) AND [x] ((y:0.5))").notes
    places = [next(n for n, note in enumerate(notes) if sign in note) for sign in ("<lora:", "1,2", "AND", "[x]")]
    assert places == sorted(places) and places[0] == 0
    assert "in the other dialect" in notes[-1]
