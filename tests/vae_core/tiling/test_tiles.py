"""Tiles cover a grid, and moments of the parts are those of the whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_vae_lora.vae_core import norms
from clip_vae_lora.vae_core.norms import Part, by_hand, exactly_normed, merged, moments, normed, parts_of
from clip_vae_lora.vae_core.tiling.tiles import Tile, at_level, cover, whole

SIDES = st.integers(1, 40)


@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES))
def test_tiles_hold_each_cell_once_and_are_no_larger_than_asked(size, tile):
    seen = torch.zeros(size, dtype=torch.int)
    tiles = cover(size, tile)
    for part in tiles:
        assert 0 < part.size[0] <= tile[0] and 0 < part.size[1] <= tile[1]
        seen[part.inside(whole(size))] += 1
    assert seen.eq(1).all()


@given(st.integers(1, 200), st.integers(1, 200))
def test_tiles_differ_by_one_cell_at_most(length, step):
    lengths = {part.size[0] for part in cover((length, 1), (step, 1))}
    assert max(lengths) - min(lengths) <= 1


def test_a_tile_without_cells_is_refused():
    with pytest.raises(ValueError, match="at least one cell along each side, not 0 x 4"):
        cover((8, 8), (0, 4))


def test_a_widened_tile_stays_inside():
    assert Tile(0, 3, 4, 8).widened(2, (5, 9)) == Tile(0, 1, 5, 9)


@given(st.tuples(SIDES, SIDES), st.data())
def test_what_a_tile_reaches_below_a_doubling_and_a_convolution(size, data):
    top, left = (data.draw(st.integers(0, 2 * side - 1)) for side in size)
    bottom, right = (data.draw(st.integers(low + 1, 2 * side)) for low, side in zip((top, left), size))
    reached = Tile(top, left, bottom, right).reached_by_up(size)
    rows = {row // 2 for row in range(top - 1, bottom + 1) if 0 <= row < 2 * size[0]}
    columns = {column // 2 for column in range(left - 1, right + 1) if 0 <= column < 2 * size[1]}
    assert (reached.top, reached.bottom) == (min(rows), max(rows) + 1)
    assert (reached.left, reached.right) == (min(columns), max(columns) + 1)


@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.floats(0.05, 20))
def test_a_tile_for_another_level_fits_its_grid(tile, size, share):
    height, width = at_level(tile, size, share)
    assert 1 <= height <= size[0] and 1 <= width <= size[1]


@settings(deadline=None, max_examples=40)
@given(st.tuples(st.integers(1, 12), st.integers(1, 12)), st.tuples(SIDES, SIDES), st.integers(0, 10**6))
def test_merged_moments_are_those_of_the_whole(size, tile, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 8, *size, generator=generator) * 3 + torch.arange(8).view(1, 8, 1, 1) * 10
    x = x + torch.arange(size[0]).view(1, 1, -1, 1)  # tiles have different means: the term between them matters
    got = merged((of for part in cover(size, tile) for of in parts_of(x[(..., *part.inside(whole(size)))])), 4)
    wide = x.double().view(4, -1)
    mean, variance = (t.double().view(4, 2) for t in (got.mean, got.variance))  # two channels a group
    assert torch.equal(mean[:, 0], mean[:, 1]) and torch.equal(variance[:, 0], variance[:, 1])
    torch.testing.assert_close(mean[:, 0], wide.mean(1), rtol=1e-6, atol=1e-6)  # each part's are fp32's
    torch.testing.assert_close(variance[:, 0], wide.var(1, correction=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 1023])
def test_where_there_is_no_float64_pairs_of_float32_merge_as_well(monkeypatch, count):
    """To the last digits of float32, also where the means are a thousand times the spread."""
    generator = torch.Generator().manual_seed(count)
    parts = [
        Part(1 + place % 3, 1000 + torch.randn(8, generator=generator), torch.rand(8, generator=generator))
        for place in range(count)
    ]
    wanted = merged(parts, 4)
    monkeypatch.setattr(norms, "has_float64", lambda device: False)
    monkeypatch.setattr(torch.Tensor, "double", None)
    got = merged(parts, 4)
    torch.testing.assert_close(got.mean, wanted.mean, rtol=1.2e-7, atol=0)
    torch.testing.assert_close(got.variance, wanted.variance, rtol=5e-7, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("affine", [True, False])
def test_the_norm_by_hand_is_batch_norms(dtype, affine):
    """For MPS and DirectML, whose batch_norm wants statistics of x's type."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(1, 8, 9, 7, generator=generator) * 3 + 40).to(dtype)
    mean, variance = x.float().mean((0, 2, 3)), x.float().var((0, 2, 3), correction=0)
    weight, bias = torch.randn(2, 8, generator=generator) if affine else (None, None)
    got = by_hand(x, mean, variance, weight, bias, 1e-6)
    wanted = torch.nn.functional.batch_norm(
        x.double(),
        mean.double(),
        variance.double(),
        *(t if t is None else t.double() for t in (weight, bias)),
        False,
        0.0,
        1e-6,
    )
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), wanted, rtol=torch.finfo(dtype).eps, atol=1e-5)  # one rounding


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_norm_with_the_moments_of_its_own_input_is_the_layer(dtype):
    layer = torch.nn.GroupNorm(4, 8, eps=1e-6, dtype=dtype)
    layer.weight.normal_(), layer.bias.normal_()
    x = (torch.randn(1, 8, 9, 7) + 2).to(dtype)
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 0.04, torch.float16: 0.005}[dtype]
    torch.testing.assert_close(normed(layer, x, moments(x, 4)), layer(x), rtol=tolerance, atol=tolerance)


@torch.no_grad()
def test_a_norm_of_a_large_picture_is_float64s_where_torchs_own_is_not():
    x = torch.randn(2, 8, 512, 512, generator=torch.Generator().manual_seed(0)) * 0.7 + 0.9
    x = x.contiguous(memory_format=torch.channels_last)
    wanted = torch.nn.functional.group_norm(x.double(), 4, eps=1e-6)
    got = exactly_normed(torch.nn.GroupNorm(4, 8, eps=1e-6), x)
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=2e-6)  # float32 has 24 bits of a value up to 6


def test_moments_of_nothing_are_refused():
    with pytest.raises(ValueError, match="give at least one part"):
        merged([], 4)
