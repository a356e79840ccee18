"""Exact search against a sort of all products, and groups against a graph drawn pair by pair."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_vae_lora.clip_core.features import search
from clip_vae_lora.clip_core.features.search import duplicate_groups, mixed, nearest, rows_at


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
    assert torch.allclose(found.scores, scores[:, :10], atol=1e-6)  # another order of summation in smaller products


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


def test_a_mixture_is_a_weighted_sum_of_length_1():
    words, pictures = unit(1), unit(3, seed=1)
    made = mixed([(words, 0.5), (pictures, -2.0)])
    assert torch.allclose(made, F.normalize(0.5 * words - 2 * pictures, dim=1), atol=1e-6)  # one rounding
    with pytest.raises(ValueError, match="leave nothing"):
        mixed([(words, 1.0), (words, -1.0)])


def groups_by_hand(rows: torch.Tensor, threshold: float, dead: set[int]) -> list[list[int]]:
    near = rows @ rows.T >= threshold
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
