"""Scores against a written-out definition, orders as laws, and pictures without numbers."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from clip_vae_lora.clip_core.judging import ranking
from clip_vae_lora.clip_core.judging.ranking import best_each_way, prompt_scores, rank

ROUNDING = 1e-6  # float32 sums of a few dozen products below one
NAN = math.nan


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return [F.normalize(torch.randn(count, 32, generator=generator), dim=-1) for count in (7, 1, 3)]


def test_without_negatives_the_score_is_the_cosine(features):
    images, prompt, _ = features
    expected = F.cosine_similarity(images.double(), prompt.double())
    assert (prompt_scores(images, prompt) - expected).abs().max() <= ROUNDING


def test_the_nearest_negative_is_taken_from_the_cosine(features):
    images, prompt, negatives = features
    for row, score in zip(images.double(), prompt_scores(images, prompt, negatives).tolist()):
        nearest = max(float(row @ negative) for negative in negatives.double())
        assert abs(score - (float(row @ prompt[0].double()) - nearest)) <= ROUNDING


def test_a_probability_is_the_prompts_share(features):
    images, prompt, negatives = features
    got = prompt_scores(images, prompt, negatives, scale=20.0, kind="probability")
    for row, score in zip(images.double(), got.tolist()):
        wanted, *others = (math.exp(20 * float(row @ text)) for text in torch.cat([prompt, negatives]).double())
        assert abs(score - wanted / (wanted + sum(others))) <= 20 * ROUNDING  # the scale multiplies the cosine's error


def test_with_one_negative_both_scores_give_one_order(features):
    images, prompt, negatives = features
    orders = [
        rank(prompt_scores(images, prompt, negatives[:1], kind=kind, scale=5.0).tolist()).order
        for kind in ranking.KINDS
    ]
    assert orders[0] == orders[1]


def test_a_probability_of_one_prompt_alone_is_refused(features):
    with pytest.raises(ValueError, match="something to choose between"):
        prompt_scores(features[0], features[1], features[2][:0], kind="probability")


SCORES = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, NAN]), min_size=1, max_size=9)


@given(SCORES, st.integers(0, 12), st.none() | st.sampled_from([-2.0, -0.5, 0.1, 0.25, 3.0]), st.booleans())
def test_a_ranking_keeps_the_first_of_a_stable_order(scores, keep, threshold, never_none):
    found = rank(scores, keep=keep, threshold=threshold, never_none=never_none)
    assert sorted(found.order) == list(range(len(scores)))
    placed = [(math.isnan(scores[n]), 0 if math.isnan(scores[n]) else -scores[n], n) for n in found.order]
    assert placed == sorted(placed)  # NaN last, higher before lower, equal ones as they came
    assert found.kept == found.order[: len(found.kept)]
    passed = [n for n in found.order if not math.isnan(scores[n]) and (threshold is None or scores[n] >= threshold)]
    if passed or not never_none:
        assert list(found.kept) == (passed[:keep] if keep else passed) and not found.fell_back
    else:
        assert len(found.kept) == found.fell_back == (not all(map(math.isnan, scores)))


def test_a_score_of_exactly_the_threshold_passes():
    assert rank([0.25, 0.2499999], threshold=0.25).kept == (0,)


def test_the_best_each_way_is_the_greatest_and_none_without_numbers():
    cosine = torch.tensor([[0.1, 0.9], [0.8, 0.2], [NAN, NAN]])
    assert best_each_way(cosine) == ([1, 0, None], [1, 0])
    assert best_each_way(cosine.T) == ([1, 0], [1, 0, None])


def test_a_picture_is_not_its_own_best_match():
    assert best_each_way(torch.eye(3) + 0.1, with_itself=True)[0] == [1, 0, 0]
    assert best_each_way(torch.ones(1, 1), with_itself=True) == ([None], [None])


def test_rows_go_to_their_places_and_the_others_are_nan():
    image = torch.rand(4, 2, 2, 3)
    image[1, 0, 0, 0], image[3, 1, 1, 2] = NAN, math.inf
    assert ranking.sound_pictures(image) == [0, 2]
    whole = ranking.with_gaps(torch.tensor([[1.0, 2.0], [3.0, NAN]]), [0, 2], 4)
    assert whole[0].tolist() == [1, 2] and whole[1:].isnan().all()
