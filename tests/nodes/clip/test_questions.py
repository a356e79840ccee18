"""Visual Question and Rank Tags choose among words."""

import json

import pytest
import torch

from ...support.judged import ROUNDING, STAR, cosines


def test_a_question_is_answered_for_every_picture(place, model, shapes):
    shown = place.node("CVL_VisualQuestion").ask(model, shapes, "what colour is the shape?", "red, green, blue")
    answer, report, chart, answers, shares = shown["result"]
    said = [line.split(",")[0] for line in shown["ui"]["text"][0].split("\n")]
    assert said[:3] == ["#0: red", "#1: blue", "#2: green"] and "  the shape is red" in said
    assert answers == ["red", "blue", "green"] and answer == "red\nblue\ngreen" and len(chart) == 3
    data = json.loads(report)
    assert data["statements"]["red"] == "the shape is red" and data["rule"] == "what colour"
    expected = cosines(model, shapes, [f"the shape is {colour}" for colour in ("red", "green", "blue")])
    got = torch.tensor([list(one["cosine"].values()) for one in data["pictures"]])
    assert (got - expected).abs().max() <= ROUNDING and all(0.5 < share <= 1 for share in shares)


def test_a_denial_is_warned_of_and_a_broken_picture_has_no_answer(place, model, broken):
    answer = place.node("CVL_VisualQuestion").ask(model, broken, "is it red?", "yes, no")
    report = json.loads(answer["result"][1])
    assert answer["result"][3][STAR] == "" and report["pictures"][STAR]["answer"] is None
    assert any("not" in note and "CLIP" in note for note in report["notes"])


def test_tags_are_a_prompt_for_each_picture(place, model, shapes):
    words = "red, green, blue\ncircle\nstar, heart, red"
    tags, tag_list, report = place.node("CVL_RankTags").rank(model, shapes, words, keep=2)["result"]
    assert [set(text.split(", ")) for text in tag_list] == [{"red", "circle"}, {"blue", "star"}, {"green", "heart"}]
    assert tags.splitlines() == tag_list and "red" in json.loads(report)["notes"][0]


def test_ten_thousand_tags_are_ranked_and_bounded(place, model, shapes):
    words = ["blue_star", *(f"w{n}" for n in range(9999))]
    rank = place.node("CVL_RankTags").rank
    assert rank(model, shapes[1:2], ",".join(words), keep=1)["result"][1] == ["blue_star"]
    with pytest.raises(ValueError, match="10,001 came"):
        rank(model, shapes, ",".join([*words, "one more"]))


def test_no_tag_over_the_threshold_is_an_empty_text_and_said(place, model, shapes):
    answer = place.node("CVL_RankTags").rank(model, shapes, "car, red circle", threshold=0.3)
    assert answer["result"][1] == ["red circle", "", ""] and "for 2 of 3 pictures" in answer["ui"]["text"][0]
