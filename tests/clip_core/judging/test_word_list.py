"""Lists as users type them."""

import pytest

from clip_vae_lora.clip_core.judging import word_list


def test_answers_are_lines_or_one_line_with_commas():
    assert word_list.answers(" red \n\n dark blue, or black\n")[0] == ["red", "dark blue, or black"]
    assert word_list.answers("red, blue,, green ")[0] == ["red", "blue", "green"]


def test_words_may_be_mixed_and_lines_keep_their_commas():
    assert word_list.words("red, blue\ngreen\n,")[0] == ["red", "blue", "green"]
    assert word_list.lines("red, blue\n \ngreen")[0] == ["red, blue", "green"]


def test_a_repetition_counts_once_and_is_said():
    found, notes = word_list.words("a, b, a, a, c, b")
    assert found == ["a", "b", "c"] and notes == ["named more than once, counted once: a, b"]
    _, notes = word_list.words(", ".join(f"w{n}, w{n}" for n in range(8)))
    assert notes == ["named more than once, counted once: w0, w1, w2, w3, w4 and 3 more"]


@pytest.mark.parametrize("text", ["", " \n ,, \n"])
def test_a_text_without_words_is_an_empty_list(text):
    assert word_list.words(text) == ([], [])


def test_ten_thousand_are_taken_and_one_more_is_refused():
    many = [f"tag {n}" for n in range(word_list.MOST + 1)]
    assert len(word_list.words("\n".join(many[:-1]))[0]) == word_list.MOST
    with pytest.raises(ValueError, match="10,000 words were expected, and 10,001 came"):
        word_list.words(",".join(many))


def test_a_tag_takes_its_place_with_spaces_for_underscores():
    assert word_list.sentences("a {tag}: {}", ["blue_sky", "{x}\\1"]) == ["a blue sky: blue sky", "a {x}\\1: {x}\\1"]
    with pytest.raises(ValueError, match="no place for the tag"):
        word_list.sentences("a tag", ["x"])


LISTED = [
    ('["red circle", "a, b", 3, 2.5]', ["red circle", "a, b", "3", "2.5"]),
    (' \n[ "one\\ntwo",\n "three" ]\n', ["one two", "three"]),
    ('["\\u732b", "caf\\u00e9"]', ["猫", "café"]),
]


@pytest.mark.parametrize("parse", [word_list.lines, word_list.answers, word_list.words])
@pytest.mark.parametrize(("text", "expected"), LISTED)
def test_a_json_list_is_a_list(parse, text, expected):
    found, notes = parse(text)
    assert found == expected and notes == [f"read as a JSON list of {len(expected)}"]


@pytest.mark.parametrize("parse", [word_list.lines, word_list.answers, word_list.words])
def test_an_entry_that_comes_twice_in_a_json_list_counts_once(parse):
    assert parse('["a", "b", "a", ""]') == (
        ["a", "b"],
        ["read as a JSON list of 4", "named more than once, counted once: a"],
    )


@pytest.mark.parametrize("text", ["[red]", "[a], [b]", "[" * 5000 + "]" * 5000, '{"a": 1}', '"a"', "[x] and ]"])
def test_what_is_no_json_list_is_text(text):
    assert word_list.lines(text) == ([text], [])


@pytest.mark.parametrize("text", ['["a", "b",]', "['a', 'b']", '["a", ["b"]]', '["a", null]', '["a", true]'])
def test_what_looks_like_a_list_and_is_none_is_said(text):
    assert word_list.lines(text)[0] == [text]
    assert "is no JSON list of texts" in word_list.lines(text)[1][0]
