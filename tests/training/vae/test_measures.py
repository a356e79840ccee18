"""What is said of a reconstruction: each measure on pictures of which it is known."""

import pytest
import torch

from clip_vae_lora.training.vae.measures import mean_quality, quality_of
from clip_vae_lora.vae_core.quality import psnr_db, ssim


def _picture(seed: int = 0, height: int = 70, width: int = 90) -> torch.Tensor:
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(seed)) * 0.5 + 0.25


def test_a_perfect_result_is_perfect_in_every_measure():
    picture = _picture()
    found = quality_of(picture, picture.clone())
    assert found.psnr_db == 120 and found.ssim == pytest.approx(1) and found.edges == 0
    assert found.details == 1 and found.colour_shift == (0, 0, 0) and found.worst_tile.psnr_db == 120


def test_the_numbers_are_those_of_their_definitions():
    picture = _picture()
    result = (picture + 0.05 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    found = quality_of(picture, result)
    assert found.psnr_db == psnr_db(picture, result) and found.ssim == float(ssim(picture, result))
    error = result - picture
    edges = (error.diff(dim=1).abs().mean() + error.diff(dim=2).abs().mean()) / 2
    assert found.edges == pytest.approx(float(edges), rel=1e-5)
    assert found.details > 1  # noise was added to the finest details


def test_a_shift_of_one_colour_is_told_with_its_sign():
    picture = _picture()
    result = picture.clone()
    result[..., 1] -= 0.125
    found = quality_of(picture, result)
    assert found.colour_shift == pytest.approx((0, -0.125, 0), abs=1e-6) and found.details == pytest.approx(1, rel=1e-4)
    assert mean_quality({"p": found})["colour_shift"] == pytest.approx(-0.125, abs=1e-5)


def test_blur_loses_details():
    picture = _picture()
    small = torch.nn.functional.avg_pool2d(picture.movedim(-1, 1), 2)
    blurred = small.repeat_interleave(2, -1).repeat_interleave(2, -2).movedim(1, -1)
    assert quality_of(picture, blurred).details == pytest.approx(0, abs=1e-6)
    assert quality_of(torch.full((1, 32, 32, 3), 0.5), torch.full((1, 32, 32, 3), 0.4)).details is None


@pytest.mark.parametrize(("left", "top"), [(0, 0), (26, 6), (64, 40)])
def test_the_worst_tile_is_where_the_error_is(left, top):
    picture = _picture()
    result = picture.clone()
    result[:, top : top + 8, left : left + 8] = 0
    tile = quality_of(picture, result).worst_tile
    assert tile.left_px <= left and left + 8 <= tile.left_px + 64
    assert tile.top_px <= top and top + 8 <= tile.top_px + 64
    assert tile.side_px == 64 and tile.left_px + 64 <= 90 and tile.top_px + 64 <= 70


def test_a_small_picture_has_no_ssim_and_one_tile():
    found = quality_of(torch.zeros(1, 8, 20, 3), torch.full((1, 8, 20, 3), 0.1))
    assert found.ssim is None and found.worst_tile.side_px == 8 and found.psnr_db == pytest.approx(20, abs=1e-4)


def test_means_leave_out_what_a_picture_does_not_have_and_name_the_worst():
    good, bad = quality_of(_picture(), _picture()), quality_of(torch.zeros(1, 8, 20, 3), torch.ones(1, 8, 20, 3))
    found = mean_quality({"good": good, "bad": bad})
    assert found["ssim"] == pytest.approx(1) and found["details"] == 1 and found["psnr_db"] == 60
    assert found["worst_tile"]["picture"] == "bad" and found["worst_tile"]["psnr_db"] == 0
