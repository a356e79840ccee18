"""Chosen trigger words, and edits of several lines at once, in web/lora_lines.mjs."""

import json

import pytest

from clip_vae_lora.lora.formats import list_text


@pytest.mark.parametrize(
    "line, words, expected",
    [
        ("a : 1", ["b", "c d"], "a : 1 # words: b, c d"),
        ("off a : 1 # mine", ["b"], "off a : 1 # words: b # mine"),
        ("a # words: b, c # mine", None, "a # mine"),
        ("a # words: b", None, "a"),
        ("a # words: b", ["c"], "a # words: c"),
        ("a : 1", [], "a : 1 # words:"),
        ("a", ["b # c"], None),
        ("a", ["b, c"], None),
        ("# a", ["b"], None),
    ],
)
def test_chosen_words_are_written_into_a_comment_of_their_own(js, line, words, expected):
    assert js("(L, [line, words]) => L.editWords(line, words)", [line, words]) == expected
    if expected:
        assert list_text.parse(expected)[0].words == (None if words is None else tuple(words))


def test_lines_are_doubled_and_switched_together(js):
    text = "a\n# c\noff b : 2\nd"
    calls = (
        "L => [L.duplicateLine(T, 3), L.switchLines(T, () => false), L.soloLine(T, 2), L.soloLine(L.soloLine(T, 2), 2)]"
    )
    assert js(calls.replace("T", json.dumps(text)), None) == [
        "a\n# c\noff b : 2\nd\nd",
        "off a\n# c\noff b : 2\noff d",
        "off a\n# c\nb : 2\noff d",
        "a\n# c\nb : 2\nd",
    ]
