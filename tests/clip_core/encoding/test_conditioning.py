"""Encoded prompts joined and compared: lengths, weights, masks, and numbers that are none."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clip_vae_lora.clip_core.encoding import conditioning

ROUNDING = 1e-12  # float64; sums of six numbers of order one


def hidden(tokens: int, *, width: int = 6, batch: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, tokens, width, generator=generator)


def test_concat_puts_the_parts_behind_one_another_each_times_its_weight():
    a, b = hidden(3), hidden(5, seed=1)
    joined = conditioning.concat([(a, 1.0), (b, 0.5)])
    assert torch.equal(joined.hidden[:, :3], a) and torch.equal(joined.hidden[:, 3:], b * 0.5)
    assert joined.padded == (0, 0)


@given(st.integers(0, 100), st.integers(1, 6), st.integers(1, 6))
def test_an_average_is_the_stock_nodes_arithmetic_and_cuts_nothing(percent, first, second):
    strength = percent / 100
    a, b = hidden(first), hidden(second, seed=1)
    joined = conditioning.average(a, b, 1 - strength)
    length = max(first, second)
    long_a = torch.cat([a, torch.zeros(1, length - first, 6)], 1)
    long_b = torch.cat([b, torch.zeros(1, length - second, 6)], 1)
    assert torch.equal(joined.hidden, torch.mul(long_a, strength) + torch.mul(long_b, 1.0 - strength))
    assert joined.padded == (length - first, length - second)


def test_a_sum_has_the_longest_length_and_leaves_its_parts_alone():
    a, b, c = hidden(2), hidden(4, seed=1), hidden(3, seed=2)
    before = [part.clone() for part in (a, b, c)]
    joined = conditioning.add([(a, 1.0), (b, -2.0), (c, 0.0)])
    assert joined.padded == (2, 0, 1)
    assert torch.equal(joined.hidden[:, 2:], b[:, 2:] * -2.0)
    assert torch.equal(joined.hidden[:, :2], a + b[:, :2] * -2.0)
    assert all(map(torch.equal, before, (a, b, c)))


def test_one_part_alone_with_weight_1_keeps_its_bits():
    a = hidden(7).half()
    for join in (conditioning.concat, conditioning.add):
        assert conditioning.same_bits(join([(a, 1.0)]).hidden, a)


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: conditioning.concat([(a, 1.0), (b, 1.0)]),
        lambda a, b: conditioning.average(a, b, 0.5),
        conditioning.compare,
    ],
)
@pytest.mark.parametrize(
    "other, said",
    [
        (hidden(3, width=8), "6 and 8 wide"),
        (hidden(3, batch=2), "have 1 and 2"),
        (hidden(3)[0], r"\[batch, tokens, width\]"),
    ],
)
def test_what_does_not_fit_is_one_sentence_with_both_numbers(join, other, said):
    with pytest.raises(ValueError, match=said):
        join(hidden(3), other)


def test_no_parts_are_an_error():
    with pytest.raises(ValueError, match="none came"):
        conditioning.concat([])


def test_masks_are_joined_like_their_tokens_and_a_part_without_one_is_seen_whole():
    mask = torch.tensor([[1, 0]])
    behind = conditioning.join_masks([(mask, 2), (None, 3)], one_behind_other=True)
    assert behind.tolist() == [[1, 0, 1, 1, 1]]
    over = conditioning.join_masks([(mask, 2), (torch.tensor([[0, 0, 1]]), 3)], one_behind_other=False)
    assert over.tolist() == [[1, 0, 1]]
    assert conditioning.join_masks([(None, 2), (None, 3)], one_behind_other=True) is None
    with pytest.raises(ValueError, match="one number for each token"):
        conditioning.join_masks([(mask, 3), (None, 3)], one_behind_other=True)


def test_comparing_is_torchs_cosine_over_the_tokens_that_both_have():
    a, b = hidden(5, batch=2), hidden(3, batch=2, seed=1)
    found = conditioning.compare(a, b)
    expected = torch.nn.functional.cosine_similarity(a[:, :3].double(), b.double(), dim=-1)
    assert (found.cosine - expected).abs().max() < ROUNDING
    assert found.norms[0].shape == (2, 5) and found.norms[1].shape == (2, 3)
    assert (found.ratio - b.double().norm(dim=-1) / a[:, :3].double().norm(dim=-1)).abs().max() < ROUNDING
    assert found.largest_difference == (a[:, :3].double() - b.double()).abs().max()
    assert not found.identical and found.broken == (0, 0)


@given(st.floats(0.01, 100))
def test_a_scaled_encoding_has_the_same_direction_and_its_ratio_is_the_scale(scale):
    a = hidden(4).double()
    found = conditioning.compare(a, a * scale)
    assert (found.cosine - 1).abs().max() < ROUNDING and (found.ratio / scale - 1).abs().max() < ROUNDING


def test_a_token_without_direction_has_no_cosine_and_no_effect_on_the_others():
    a, b = hidden(4), hidden(4, seed=1)
    a[0, 1], b[0, 2], b[0, 3, 0] = 0.0, math.nan, math.inf
    found = conditioning.compare(a, b)
    assert found.cosine.isnan().tolist() == [[False, True, True, True]]
    assert found.broken == (0, 2) and math.isnan(found.largest_difference)


def test_identical_means_the_same_dtype_and_bits():
    a = hidden(3)
    assert conditioning.compare(a, a.clone()).identical
    assert not conditioning.compare(a, a.double()).identical
    zero, minus, nan = torch.zeros(1, 1, 6), -torch.zeros(1, 1, 6), torch.full((1, 1, 6), math.nan)
    assert not conditioning.compare(zero, minus).identical and conditioning.compare(nan, nan.clone()).identical


def test_no_tokens_in_common_are_no_crash():
    found = conditioning.compare(hidden(0), hidden(3))
    assert found.cosine.shape == (1, 0) and found.largest_difference == 0.0


@pytest.mark.parametrize(
    "first, second, equal",
    [
        ({"a": [1, (2.0, None)]}, {"a": [1, (2.0, None)]}, True),
        ({"a": [1, (2.0, None)]}, {"a": [1, [2.0, None]]}, False),
        ([torch.ones(2)], [torch.ones(2)], True),
        ([torch.ones(2)], [torch.zeros(2)], False),
        ("a", "a", True),
        (1, 1.0, True),
        (object(), object(), False),
        (torch.ones(2), 1, False),
    ],
)
def test_options_are_the_same_when_their_values_are(first, second, equal):
    assert conditioning.same(first, second) is equal
