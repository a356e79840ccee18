"""A matrix as a picture: sizes, bounds, marks, and what has no number."""

import math

import pytest
import torch

from clip_vae_lora.drawing.heat_map import MOST, Axis, heat_map, stack_pictures

FRAME, CORNER = torch.tensor([200, 60, 20]) / 255, torch.tensor([30, 140, 60]) / 255


def axis(count, pictures=False):
    return Axis([f"name {n}" for n in range(count)], torch.rand(count, 5, 7, 3) if pictures else None)


def has(image, colour) -> int:
    return int(((image - colour).abs().amax(-1) < 1e-3).sum())


@pytest.mark.parametrize("rows, columns", [(1, 1), (1, 64), (64, 1), (64, 64), (3, 5)])
@pytest.mark.parametrize("pictures", [False, True])
def test_every_size_is_drawn_within_bounds(rows, columns, pictures):
    image = heat_map(torch.rand(rows, columns), axis(rows, True), axis(columns, pictures), "title")
    assert image.ndim == 4 and image.shape[3] == 3 and 0 <= image.min() and image.max() <= 1
    assert max(image.shape) <= 2600 and min(image.shape[1:3]) >= 150


def test_more_than_most_show_those_with_the_highest_values():
    values = torch.rand(3, 200) * 0.1
    few = torch.arange(200) % 4 == 1  # fifty of them, and 14 of the rest
    values[1, few] += 0.5
    whole = heat_map(values, axis(3, True), axis(200), "t")
    order = values.amax(0).argsort(descending=True)[:MOST].sort().values
    names = [f"name {n}" for n in order]
    part = heat_map(values[:, order], axis(3, True), Axis(names), "t")
    assert whole.shape == part.shape and few[order].sum() == 50
    assert torch.equal(whole[:, 400:, 400:], part[:, 400:, 400:])  # the cells; title and thumbnails lie before


def test_the_best_are_framed_but_not_a_picture_with_itself():
    marked = heat_map(torch.eye(2), axis(2), axis(2), "t")
    alone = heat_map(torch.ones(1, 1), axis(1), axis(1), "t", diagonal=False)
    legend = has(alone, FRAME), has(alone, CORNER)
    assert has(marked, FRAME) > 4 * legend[0] > 0 and has(marked, CORNER) > legend[1] > 0


def test_cells_without_numbers_are_grey_and_nobodys_best():
    values = torch.tensor([[0.1, math.nan], [math.nan, math.nan]])
    image = heat_map(values, axis(2), axis(2), "t")
    assert has(image, torch.tensor([214, 214, 214]) / 255) > 3 * 5000
    assert image.shape == heat_map(torch.full((2, 2), math.nan), axis(2), axis(2), "t").shape


@pytest.mark.parametrize("values, rows", [(torch.rand(2, 3), 3), (torch.rand(0, 3), 0)])
def test_names_that_do_not_fit_the_matrix_are_refused(values, rows):
    with pytest.raises(ValueError, match="a name for each row and column"):
        heat_map(values, axis(rows), axis(3), "t")


def test_maps_are_put_one_below_the_other():
    first, second = torch.zeros(1, 4, 6, 3), torch.ones(1, 5, 9, 3)
    both = stack_pictures([first, second])
    assert both.shape == (1, 9, 9, 3) and torch.equal(both[:, :4, :6], first) and torch.equal(both[:, 4:], second)


def test_a_name_of_two_lines_is_drawn_as_one():
    two, one = (
        heat_map(torch.rand(1, 1, generator=torch.Generator().manual_seed(0)), Axis([name]), Axis([name]), "t")
        for name in ("a\nb", "a b")
    )
    assert torch.equal(two, one)
