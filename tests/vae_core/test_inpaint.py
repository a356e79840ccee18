"""Laws of the padding, the hole, the feather and the composite."""

import math

import pytest
import torch
from torch.nn.functional import conv2d

from clip_vae_lora.vae_core import inpaint


def picture(height=12, width=10, batch=1, seed=0):
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(seed))


def spots(height=30, width=26, batch=1, seed=0, share=0.03):
    return (torch.rand(batch, height, width, generator=torch.Generator().manual_seed(seed)) < share).float()


# padding


@pytest.mark.parametrize("factor", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2), (8, 16), (9, 17), (31, 33), (63, 5)])
def test_padding_fills_whole_cells_and_cutting_gives_the_picture_back(size, factor):
    image = picture(*size, batch=2)
    padded = inpaint.padded_to_cells(image, factor)
    assert padded.shape[1:3] == tuple(math.ceil(px / factor) * factor for px in size)
    assert torch.equal(inpaint.cut_to(padded, size), image)


def test_what_is_missing_is_mirrored_without_the_border_itself():
    image = picture(13, 14)
    padded = inpaint.padded_to_cells(image, 8)
    theirs = torch.nn.functional.pad(image.movedim(-1, 1), (0, 2, 0, 3), mode="reflect").movedim(1, -1)
    assert torch.equal(padded, theirs)


def test_where_there_is_too_little_to_mirror_the_last_row_comes_again():
    image = picture(3, 14)
    padded = inpaint.padded_to_cells(image, 8)
    assert torch.equal(padded[:, 3:, :14], image[:, 2:].expand(-1, 5, -1, -1))
    one = inpaint.padded_to_cells(picture(1, 1), 8)
    assert torch.equal(one, picture(1, 1).expand(-1, 8, 8, -1))


def test_a_picture_of_whole_cells_is_passed_on_and_masks_are_padded_too():
    image = picture(16, 8)
    assert inpaint.padded_to_cells(image, 8) is image
    assert inpaint.padded_to_cells(torch.ones(2, 5, 9), 4).shape == (2, 8, 12)


def test_more_than_there_is_can_not_be_cut():
    with pytest.raises(ValueError, match="10 x 13 px was to be cut from one of 10 x 12 px"):
        inpaint.cut_to(picture(), (13, 10))


# the hole


@pytest.mark.parametrize("brush", range(12))
def test_the_noise_mask_is_the_mask_convolved_with_the_brush_as_comfyui_does(brush):
    mask = spots(24, 28, batch=2)
    found = inpaint.hole(picture(24, 28, 2), mask, brush, 4).noise_mask
    expected = mask[:, None]
    if brush:  # nodes.py:389 of ComfyUI 0.3.64
        ones = torch.ones(1, 1, brush, brush)
        expected = conv2d(mask[:, None], ones, padding=math.ceil((brush - 1) / 2)).clamp(0, 1)[:, :, :24, :28]
    assert torch.equal(found, expected)


def test_the_hole_is_grey_and_the_rest_keeps_its_bits():
    image, mask = picture(24, 28, 2), spots(24, 28, share=0.3)
    pixels = inpaint.hole(image, mask, 6, 4).pixels
    inside = (mask > 0).expand(2, -1, -1)
    assert (pixels[inside] == 0.5).all() and torch.equal(pixels[~inside], image[~inside])


def test_the_mask_reaches_into_the_padding_where_it_reaches_the_border():
    mask = torch.zeros(1, 13, 14)
    mask[:, 8:] = 1  # down to the border
    found = inpaint.hole(picture(13, 14), mask, 0, 8)
    assert found.noise_mask.shape == (1, 1, 16, 16) and (found.noise_mask[:, :, 8:] == 1).all()
    assert (found.pixels[:, 8:] == 0.5).all() and not found.noise_mask[:, :, :8].any()


def test_soft_and_scaled_masks_are_rounded_at_a_half():
    soft = torch.tensor([0.0, 0.4, 0.6, 1.0]).view(1, 1, 4).expand(1, 4, 4)
    found = inpaint.hole(picture(4, 4), soft, 0, 4)
    assert found.was_soft and found.mask[0, 0].tolist() == [0, 0, 1, 1]
    assert not inpaint.hole(picture(4, 4), soft.round(), 0, 4).was_soft
    assert inpaint.hole(picture(8, 8), torch.ones(1, 3, 5), 0, 4).mask.shape == (1, 8, 8)


# the feather


@pytest.mark.parametrize("feather", range(14))
def test_a_feather_is_zero_where_the_mask_is_and_within_zero_and_one(feather):
    mask = inpaint.grown(spots(seed=feather), 5, 5)
    weight = inpaint.feathered(mask, feather)
    assert (weight[mask == 0] == 0).all() and weight.min() >= 0 and weight.max() <= 1


@pytest.mark.parametrize("feather", range(1, 14))
def test_across_an_edge_a_feather_rises_evenly_to_one(feather):
    mask = torch.zeros(1, 5, 60)
    mask[..., 20:] = 1
    ramp = inpaint.feathered(mask, feather)[0, 2].double()
    assert (ramp.diff() >= 0).all() and (ramp[20 + feather + 1 :] == 1).all()
    mirrored = 1 - ramp.flip(0).roll(2 * 20 + 2 * ((feather + 1) // 2) - 60)  # half of it is reached in its middle
    near = slice(20, 20 + feather)
    assert (ramp[near] - mirrored[near]).abs().max() < 1e-6  # float32


def test_the_pictures_border_is_no_edge():
    assert (inpaint.feathered(torch.ones(1, 9, 7), 40) == 1).all()


@pytest.mark.parametrize("px", [1, 4, 9])
def test_a_mask_grown_by_its_feather_is_whole_where_it_was(px):
    mask = spots()
    weight = inpaint.feathered(inpaint.grown(mask, px + 1, px + 1), px)
    assert (weight[mask == 1] == 1).all()


def test_growing_is_by_so_many_pixels_on_each_side():
    mask = torch.zeros(1, 20, 20)
    mask[0, 10, 10] = 1
    rows, columns = inpaint.grown(mask, 2, 3)[0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 13, 8, 13)


# the composite


def test_a_composite_is_both_pictures_bits_at_the_ends_and_a_mixture_between():
    original, inpainted = picture(batch=2), picture(seed=1)
    weight = torch.linspace(0, 1, 10).expand(1, 12, 10)
    found = inpaint.composite(original, inpainted, weight)
    assert torch.equal(found[:, :, 0], original[:, :, 0])
    assert torch.equal(found[:, :, 9], inpainted[:, :, 9].expand(2, -1, -1))
    expected = original * (1 - weight[..., None]) + inpainted * weight[..., None]
    assert (found - expected).abs().max() < 1e-6  # float32


@pytest.mark.parametrize(
    "size,original,padded",
    [
        ((16, 16), (13, 9), True),
        ((16, 12), (13, 9), True),
        ((64, 64), (13, 9), True),
        ((14, 10), (13, 9), True),
        ((13, 16), (13, 9), False),
        ((15, 9), (13, 9), False),
        ((8, 8), (13, 9), False),
        ((16, 24), (13, 9), False),
        ((26, 18), (13, 9), False),
        ((128, 128), (13, 9), False),
        ((13, 9), (13, 9), False),
    ],
)
def test_a_padded_size_is_the_next_whole_number_of_cells_on_both_sides(size, original, padded):
    assert inpaint.is_padded(size, original) is padded


def test_a_flat_picture_stays_flat_when_scaled():
    for size in ((5, 7), (30, 40)):
        assert torch.allclose(inpaint.resized(torch.full((2, 12, 10, 3), 0.4), size), torch.tensor(0.4), atol=1e-6)
