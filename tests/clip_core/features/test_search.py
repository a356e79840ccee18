"""Exact search against a sort of all products, and groups against a graph drawn pair by pair."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_vae_lora.clip_core.features import search
from clip_vae_lora.clip_core.features.search import (
    SAME,
    alive_rows,
    cosines,
    duplicate_groups,
    mixed,
    nearest,
    reaches,
    rows_at,
)


def unit(count: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def cut(rows: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    return list(rows.split(sizes))


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_the_best_rows_are_those_of_a_whole_sort(queries, step, monkeypatch):
    monkeypatch.setattr(search, "_SCORES", step)
    rows, asked = unit(5000), unit(queries, seed=1)
    found = nearest(cut(rows, [0, 1, 3000, 1999]), asked, 10)
    scores, places = (asked @ rows.T).sort(1, descending=True)
    assert torch.equal(found.rows, places[:, :10])
    assert torch.allclose(
        found.scores.float(), scores[:, :10], atol=1e-6
    )  # another order of summation in smaller products


def test_rows_that_are_dead_are_never_found():
    rows, asked = unit(300), unit(2, seed=1)
    dead = torch.arange(0, 300, 3)
    found = nearest(cut(rows, [100, 200]), asked, 300, dead=[dead[dead < 100], dead[dead >= 100] - 100])
    living = [row for row in range(300) if row % 3]
    assert found.rows.shape == (2, 200)
    assert all(sorted(rows) == living for rows in found.rows.tolist())
    assert found.scores.isfinite().all() and (found.scores.diff(dim=1) <= 0).all()


def test_more_than_there_is_gives_all_there_is():
    assert nearest([unit(3)], unit(1), 10).rows.shape == (1, 3)
    assert nearest([], unit(1), 10).rows.shape == (1, 0)


def test_progress_is_told_and_can_stop():
    seen = []
    nearest(cut(unit(50), [20, 30]), unit(1), 1, on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(20, 50), (50, 50)]


def test_rows_are_found_by_their_number_through_all_blocks():
    rows = unit(60)
    assert torch.equal(rows_at(cut(rows, [10, 0, 50]), [59, 0, 10, 9]), rows[[59, 0, 10, 9]])


def test_all_rows_but_the_dead_come_with_their_numbers():
    rows = unit(12)
    blocks, dead = cut(rows, [5, 0, 7]), [torch.tensor([1, 4]), torch.tensor([], dtype=torch.int64), torch.tensor([0])]
    found, numbers = alive_rows(blocks, dead)
    assert numbers == [0, 2, 3, 6, 7, 8, 9, 10, 11] and torch.equal(found, rows[numbers])


def test_a_mixture_is_a_weighted_sum_of_length_1():
    words, pictures = unit(1), unit(3, seed=1)
    made = mixed([(words, 0.5), (pictures, -2.0)])
    assert torch.allclose(made, F.normalize(0.5 * words - 2 * pictures, dim=1), atol=1e-6)  # one rounding
    with pytest.raises(ValueError, match="leave nothing"):
        mixed([(words, 1.0), (words, -1.0)])


def groups_by_hand(rows: torch.Tensor, threshold: float, dead: set[int]) -> list[list[int]]:
    near = rows @ rows.T >= threshold - SAME
    left, found = set(range(len(rows))) - dead, []
    while left:
        group, waiting = set(), [min(left)]
        while waiting:
            row = waiting.pop()
            if row in left:
                left.remove(row)
                group.add(row)
                waiting += near[row].nonzero()[:, 0].tolist()
        if len(group) > 1:
            found.append(sorted(group))
    return sorted(found, key=lambda group: (-len(group), group[0]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(1, 9), st.sampled_from([0.5, 0.8, 0.95]), st.integers(0, 99))
def test_groups_are_the_connected_parts_of_the_graph(count, step, threshold, seed):
    rows = unit(count, 3, seed)
    dead = set(range(0, count, 5))
    sizes = [count // 3, count - count // 3]
    lost = [
        torch.tensor([r for r in dead if r < sizes[0]], dtype=torch.int64),
        torch.tensor([r - sizes[0] for r in dead if r >= sizes[0]], dtype=torch.int64),
    ]
    before, search._PAIR_ROWS = search._PAIR_ROWS, step
    try:
        assert duplicate_groups(cut(rows, sizes), threshold, dead=lost) == groups_by_hand(rows, threshold, dead)
    finally:
        search._PAIR_ROWS = before


def test_thousands_of_equal_rows_are_one_group_at_once():
    rows = unit(1).repeat(5000, 1)
    assert duplicate_groups([rows], 0.99) == [list(range(5000))]


def test_equal_rows_have_equal_scores_and_a_row_scores_one_with_itself():
    rows = unit(300, 512)
    twice = torch.cat((rows, rows.flip(0)))
    found = nearest(cut(twice, [7, 293, 300]), rows, 2)
    assert (found.scores == 1).all()
    assert found.rows.tolist() == [[n, 599 - n] for n in range(300)]  # equal ones in the order of the index
    assert (cosines(rows[:1].repeat(5, 1), rows[0]) == 1).all()


@pytest.mark.parametrize("sizes", [[600], [1, 599], [200, 200, 200]])
@pytest.mark.parametrize("queries", [1, 3, 50])
def test_the_order_does_not_depend_on_how_many_were_asked_for_or_on_the_blocks(sizes, queries):
    rows = unit(150, 16).repeat(4, 1)  # four of each
    asked = unit(queries, 16, seed=1)
    whole = nearest([rows], asked, 600)
    for count in (1, 2, 5, 77, 600):
        found = nearest(cut(rows, sizes), asked, count)
        assert torch.equal(found.rows, whole.rows[:, :count]) and torch.equal(found.scores, whole.scores[:, :count])
    one = nearest(cut(rows, sizes), asked[:1], 10)
    assert torch.equal(one.rows[0], whole.rows[0, :10]) and torch.equal(one.scores[0], whole.scores[0, :10])


@pytest.mark.parametrize("threshold", [0.999, 0.99999, 1.0])
def test_copies_are_found_at_every_threshold_to_one(threshold):
    rows = unit(200, 768)
    groups = duplicate_groups(cut(torch.cat((rows, rows)), [150, 250]), threshold)
    assert groups == [[n, n + 200] for n in range(200)]


def test_a_threshold_includes_what_equals_it():
    angle = torch.acos(torch.tensor(0.95, dtype=torch.float64))
    pair = torch.stack((torch.tensor([1.0, 0.0]), torch.stack((angle.cos(), angle.sin())).float()))
    assert duplicate_groups([pair], 0.95) == [[0, 1]] and not duplicate_groups([pair], 0.9501)
    score = float(nearest([pair], pair[:1], 2).scores[0, 1])
    assert reaches(score, 0.95) and reaches(score, round(score, 6)) and not reaches(score, 0.9501)
