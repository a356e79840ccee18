"""Rank Images: order, thresholds, negatives, pictures without numbers."""

import json

import pytest
import torch

from clip_vae_lora.nodes.clip.selection import PictureSelection
from clip_vae_lora.nodes.host.alone.absence import Absent

from ...support.judged import CIRCLE, HEART, ROUNDING, STAR, cosines


def test_make_three_keep_the_best(place, model, shapes):
    results = place.node("CVL_RankImages").rank(model, shapes, "a photo of a blue star", keep=1)["result"]
    images, selection, indices, scores, index_list, score_list, ranks, report = results
    assert torch.equal(images, shapes[STAR : STAR + 1]) and selection == PictureSelection((STAR,), 3)
    assert indices == "1" and index_list == [1] and json.loads(scores) == [round(score_list[0], 6)]
    assert [one["index"] for one in json.loads(report)["pictures"]][0] == STAR and ranks.shape[0] == 1


def test_all_are_sorted_by_the_prompts_cosine(place, model, shapes):
    results = place.node("CVL_RankImages").rank(model, shapes, "a red circle")["result"]
    expected = cosines(model, shapes, ["a red circle"])[:, 0]
    order = expected.argsort(descending=True).tolist()
    assert results[4] == order and torch.equal(results[0], shapes[order])
    assert (torch.tensor(results[5]) - expected[order]).abs().max() <= ROUNDING


def test_a_negative_changes_the_order(place, model, shapes):
    rank = place.node("CVL_RankImages").rank
    best = rank(model, shapes, "a drawing", "a red circle\na blue star", keep=1)["result"][4]
    assert best == [HEART]
    share = rank(model, shapes, "a green heart", "a red circle\na blue star", score="probability")["result"][5]
    assert all(0 <= value <= 1 for value in share) and share[0] > 0.9


def test_a_negative_threshold_and_more_than_there_are_keep_what_passes(place, model, shapes):
    answer = place.node("CVL_RankImages").rank(model, shapes, "a red circle", keep=9, threshold=-0.5)
    assert len(answer["result"][0]) == 3 and "9 were to be kept, and there are 3" in answer["ui"]["text"][0]


def test_when_none_passes_the_best_is_kept_or_an_error_or_nothing(place, model, shapes):
    rank = place.node("CVL_RankImages").rank
    answer = rank(model, shapes, "a red circle", threshold=1.5)
    assert answer["result"][4] == [CIRCLE] and "kept all the same" in answer["ui"]["text"][0]
    with pytest.raises(ValueError, match="no picture reaches the threshold 1.5"):
        rank(model, shapes, "a red circle", threshold=1.5, when_none_pass="stop with an error")
    answer = rank(model, shapes, "a red circle", threshold=1.5, when_none_pass="pass nothing on")
    *first, ranks, report = answer["result"]
    assert all(isinstance(one, Absent) and "threshold 1.5" in one.why for one in first) and len(first) == 6
    assert ranks.shape[0] == 1 and json.loads(report)["kept"] == []


def test_a_picture_without_numbers_is_last_never_kept_and_named(place, model, broken):
    answer = place.node("CVL_RankImages").rank(model, broken, "a blue star")
    report = json.loads(answer["result"][-1])
    assert STAR not in answer["result"][4] and len(answer["result"][4]) == 2
    assert report["pictures"][-1] == {"index": STAR, "rank": 3, "score": None} and "at 1" in report["notes"][0]


def test_one_picture_is_ranked_too(place, model, shapes):
    assert place.node("CVL_RankImages").rank(model, shapes[:1], "x", keep=2)["result"][2] == "0"
