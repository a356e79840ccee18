"""Tiles cover a grid, and moments of the parts are those of the whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_vae_lora.vae_core.norms import merged, moments, normed
from clip_vae_lora.vae_core.tiles import Tile, at_level, cover, whole

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
    got = merged(moments(x[(..., *part.inside(whole(size)))], 4) for part in cover(size, tile))
    wide = x.double().view(4, -1)
    torch.testing.assert_close(got.mean, wide.mean(1), rtol=1e-6, atol=1e-6)   # each part's are fp32's
    torch.testing.assert_close(got.variance, wide.var(1, correction=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_norm_with_the_moments_of_its_own_input_is_the_layer(dtype):
    layer = torch.nn.GroupNorm(4, 8, eps=1e-6, dtype=dtype)
    layer.weight.normal_(), layer.bias.normal_()
    x = (torch.randn(1, 8, 9, 7) + 2).to(dtype)
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 0.04, torch.float16: 0.005}[dtype]
    torch.testing.assert_close(normed(layer, x, moments(x, 4)), layer(x), rtol=tolerance, atol=tolerance)


def test_moments_of_nothing_are_refused():
    with pytest.raises(ValueError, match="give at least one part"):
        merged([])
