"""What is linked to an IMAGE or a MASK and is none, or has numbers of another range, is a sentence."""

import pytest
import torch

from clip_vae_lora.nodes.checks import check_image, check_mask, check_range

SOUND = torch.rand(1, 4, 6, 3)


@pytest.mark.parametrize("value", ["x", None, [SOUND], {"samples": SOUND}, 5])
def test_a_literal_where_a_picture_belongs_is_a_sentence(value):
    with pytest.raises(ValueError, match="an IMAGE was expected here, but .* came; link a node"):
        check_image(value)
    with pytest.raises(ValueError, match="a MASK was expected here"):
        check_mask(value)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64])
def test_whole_numbers_and_eight_bit_floats_are_no_pixels(dtype):
    with pytest.raises(ValueError, match="of type .*, but fractional numbers"):
        check_image((SOUND * 255).to(dtype))


@pytest.mark.parametrize("image", [SOUND * 255, SOUND * 2 - 1, SOUND * 1e30, -SOUND])
def test_pixels_of_another_range_are_a_sentence(image):
    with pytest.raises(ValueError, match="has values from .* outside 0..1"):
        check_image(image)
    with pytest.raises(ValueError, match="outside 0..1"):
        check_range(image[0])


def test_what_scaling_leaves_beside_the_range_is_taken():
    board = (torch.arange(32)[:, None] + torch.arange(32)).remainder(2).float().expand(1, 3, 32, 32)
    larger = torch.nn.functional.interpolate(board, scale_factor=3.7, mode="bicubic").movedim(1, -1)
    assert larger.min() < -0.05 and larger.max() > 1.05
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        check_image(larger.to(dtype))
