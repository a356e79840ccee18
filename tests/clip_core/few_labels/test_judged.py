"""Intervals, calibration, temperature, splits and questions against scipy, closed forms and laws."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, entropy

from clip_vae_lora.clip_core.few_labels.asking import doubt, to_label_next
from clip_vae_lora.clip_core.few_labels.choosing import Trial, best_trial, fitted_temperature, is_better
from clip_vae_lora.clip_core.few_labels.measuring import calibration_error, measure, wilson
from clip_vae_lora.clip_core.few_labels.methods import Candidate
from clip_vae_lora.clip_core.few_labels.splitting import folds, groups_of, held_out_places


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (7, 9), (0, 30), (90, 100), (1000, 1000)])
def test_the_interval_is_scipys(right, count):
    theirs = binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right, count) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_the_calibration_error_of_a_table_by_hand():
    sure = torch.tensor([0.95, 0.91, 0.92, 0.55, 0.6])  # 3 in the last range, 2 in 0.5..0.6
    correct = torch.tensor([True, True, False, False, True])
    expected = 3 / 5 * abs((0.95 + 0.91 + 0.92) / 3 - 2 / 3) + 2 / 5 * abs((0.55 + 0.6) / 2 - 1 / 2)
    assert calibration_error(sure, correct) == pytest.approx(expected, abs=1e-6)


def test_answers_as_sure_as_they_are_right_have_no_calibration_error():
    assert calibration_error(torch.full((10,), 0.7), torch.arange(10) < 7) == pytest.approx(0, abs=1e-6)


def test_coverage_counts_the_answers_from_the_threshold_on():
    shares = torch.tensor([[0.8, 0.2], [0.79, 0.21], [0.1, 0.9]])
    found = measure(shares, torch.tensor([0, 0, 0]), 0.8)
    assert (found.count, found.right, found.covered, found.covered_right) == (3, 2, 2, 1)
    assert measure(shares[:0], torch.empty(0, dtype=torch.int64), 0.8) is None


def test_the_temperature_is_where_the_smoothed_likelihood_is_best():
    draw = torch.Generator().manual_seed(0)
    truth = torch.randint(4, (200,), generator=draw)
    logits = 7 * (torch.randn(200, 4, generator=draw, dtype=torch.float64) + F.one_hot(truth, 4))
    targets = torch.full((200, 4), 1 / 202 / 3, dtype=torch.float64)
    targets[torch.arange(200), truth] = 1 - 1 / 202

    def loss(log10):
        return float(-(targets * (logits / 10**log10).log_softmax(-1)).sum(1).mean())

    best = minimize_scalar(loss, bounds=(-2, 2), method="bounded")
    found, least = fitted_temperature(logits, truth)
    assert found == pytest.approx(10**best.x, rel=0.025)  # the grid has a step of 4.7 %
    assert least == pytest.approx(best.fun, rel=1e-3)


def test_a_few_right_answers_make_no_certainty():
    logits = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    temperature, _ = fitted_temperature(logits, torch.tensor([0, 1]))
    assert float((logits / temperature).softmax(-1).max()) == pytest.approx(0.75, abs=0.02)  # 1 - 1 / (2 + 2)


labels_and_groups = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=60)


@given(labels_and_groups, st.floats(0, 0.99), st.integers(0, 5))
def test_held_out_pictures_leave_every_class_something_and_take_whole_groups(pairs, share, seed):
    labels, groups = [label for label, _ in pairs], [10 * label + group for label, group in pairs]
    out = set(held_out_places(labels, groups, share, seed))
    kept = set(range(len(pairs))) - out
    assert {labels[place] for place in kept} == set(labels)
    assert not {groups[place] for place in out} & {groups[place] for place in kept}
    for label in set(labels):
        assert sum(labels[place] == label for place in out) <= share * labels.count(label)


@given(labels_and_groups, st.integers(0, 5), st.booleans())
def test_folds_part_the_labels_and_leave_every_class_something(pairs, seed, also_alone):
    labels, groups = [label for label, _ in pairs], [10 * label + group for label, group in pairs]
    parts = folds(labels, groups, 5, seed, also_alone=also_alone)
    places = [place for part in parts for place in part]
    assert len(set(places)) == len(places)
    alone = {label for label in labels if len({groups[n] for n in range(len(labels)) if labels[n] == label}) == 1}
    expected = set(range(len(labels))) if also_alone else {n for n in range(len(labels)) if labels[n] not in alone}
    assert set(places) == expected
    for part in parts:
        assert not {groups[n] for n in part} & {groups[n] for n in set(range(len(labels))) - set(part)}


def test_copies_are_one_group_and_others_are_not():
    rows = F.normalize(torch.tensor([[1.0, 0], [0, 1], [1, 0.001], [0.7, 0.7]]), dim=-1)
    assert groups_of(rows).tolist() == [0, 1, 0, 3]


def test_doubt_by_entropy_is_scipys_and_by_margin_the_missing_lead():
    shares = torch.tensor([[0.5, 0.5, 0.0], [0.7, 0.2, 0.1], [1.0, 0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([entropy(row, base=3) for row in shares.tolist()], dtype=torch.float64)
    torch.testing.assert_close(doubt(shares, "entropy"), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(doubt(shares, "margin"), torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))


def test_the_most_doubtful_of_each_class_are_asked_for_first_and_no_two_alike():
    features = F.normalize(torch.tensor([[1.0, 0], [1, 0.01], [0, 1], [0.5, 1], [1, 1]]), dim=-1)
    shares = torch.tensor([[0.5, 0.5], [0.51, 0.49], [0.4, 0.6], [0.45, 0.55], [0.9, 0.1]])
    assert to_label_next(features, shares, [0, 1, 2, 3, 4], 4) == [0, 3, 2, 4]  # 1 is a copy of 0
    assert to_label_next(features, shares, [0, 1, 2, 3, 4], 9) == [0, 3, 2, 4, 1]
    assert to_label_next(features, shares, [2, 4], 9) == [2, 4] and to_label_next(features, shares, [], 9) == []


def trial(method, setting, right, loss, count=20):
    return Trial(Candidate(method, setting), tuple(number < right for number in range(count)), loss, 1.0)


def test_of_one_method_the_most_right_answers_win_then_the_least_loss():
    found = [trial("probe", (0.1,), 9, 0.5), trial("probe", (1.0,), 9, 0.4), trial("probe", (2.0,), 8, 0.1)]
    assert best_trial(found, 5) is found[1]


def test_another_method_has_to_be_better_by_more_than_a_picture_that_chance_may_give():
    found = [trial("probe", (0.1,), 17, 0.5), trial("zero-shot", (), 17, 0.1), trial("TransCLIP", (0.2,), 18, 0.1)]
    assert best_trial(found, 5) is found[0]
    better = trial("nearest mean", (), 19, 9.9)
    assert best_trial([*found, better], 5) is better


def test_answers_that_both_have_right_do_not_count_but_each_that_one_alone_has():
    first = Trial(Candidate("probe", ()), (True,) * 10 + (False,) * 6, 0.0, 1.0)
    second = Trial(Candidate("cache", ()), (False,) * 4 + (True,) * 12, 0.0, 1.0)  # 6 gained, 4 lost: 2 < sqrt(10)
    assert second.right > first.right and not is_better(second, first)
    third = Trial(Candidate("cache", ()), (False,) + (True,) * 15, 0.0, 1.0)  # 6 gained, 1 lost: 5 > sqrt(7)
    assert is_better(third, first)


def test_texts_that_are_no_better_than_guessing_are_left_aside():
    found = [trial("zero-shot", (), 2, 0.1), trial("nearest mean", (), 0, 0.2), trial("propagation", (0.0,), 0, 0.9)]
    assert best_trial(found, 10) is found[2]
    assert best_trial(found, 11) is found[0]
