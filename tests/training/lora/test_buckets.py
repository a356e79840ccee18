"""Sizes to train at and batches of one size."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clip_vae_lora.training.lora.data.buckets import batch_at, batches, fit, sizes


@pytest.mark.parametrize(("resolution", "step"), [(512, 64), (1024, 64), (768, 32), (64, 64), (100, 8)])
def test_sizes_are_whole_steps_within_the_area_and_come_in_both_directions(resolution: int, step: int):
    found = sizes(resolution, step)
    assert all(w % step == 0 == h % step and w * h <= resolution**2 and max(w, h) <= 2 * resolution for w, h in found)
    assert set(found) == {(h, w) for w, h in found}
    assert resolution % step or (resolution, resolution) in found


def test_a_resolution_below_a_step_is_refused():
    with pytest.raises(ValueError, match="at least 64 px"):
        sizes(32)


@given(st.integers(16, 5000), st.integers(16, 5000))
def test_a_picture_gets_the_nearest_ratio_and_loses_what_its_cut_says(width: int, height: int):
    own = fit(width, height, sizes(512))
    assert 0 <= own.cut < 1
    scale = max(own.width / width, own.height / height)
    assert own.cut == pytest.approx(1 - own.width * own.height / (width * height * scale**2), abs=1e-9)
    if 0.5 < width / height < 2:
        assert own.cut < 0.2


def test_pictures_are_not_enlarged_unless_asked():
    small = fit(300, 200, sizes(512), keep_small_by_px=64)
    assert (small.width, small.height) == (256, 192)
    assert fit(3000, 2000, sizes(512), keep_small_by_px=64) == fit(3000, 2000, sizes(512))
    assert fit(300, 200, sizes(512)).width > 300


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(1, 7), st.integers(0, 99))
def test_every_example_is_in_one_batch_of_its_own_group(groups: list[str], size: int, seed: int):
    found = batches(groups, size, torch.Generator().manual_seed(seed))
    assert Counter(place for batch in found for place in batch) == Counter(range(len(groups)))
    assert all(len({groups[place] for place in batch}) == 1 and len(batch) <= size for batch in found)


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 9))
def test_steps_go_through_the_passes_one_after_another(groups: list[str], size: int, seed: int):
    per_pass = len(batches(groups, size, torch.Generator().manual_seed(0)))
    for number in range(3):
        seen = [batch_at(number * per_pass + place, groups, size, seed) for place in range(per_pass)]
        assert Counter(place for batch in seen for place in batch) == Counter(range(len(groups)))


def test_the_order_changes_from_pass_to_pass_and_with_the_seed():
    groups = ["a"] * 32
    first = [batch_at(step, groups, 4, 1) for step in range(8)]
    assert first != [batch_at(step, groups, 4, 1) for step in range(8, 16)]
    assert first != [batch_at(step, groups, 4, 2) for step in range(8)]
    assert first == [batch_at(step, groups, 4, 1) for step in range(8)]
