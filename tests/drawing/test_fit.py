"""Pictures of many sizes as one batch: proportions kept, nothing enlarged that need not be, equal sizes untouched."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clip_vae_lora.drawing.fit import FITS, Batch, batch_size_px, fit_picture, picture_bytes

SIDES = st.integers(1, 4000)


@given(SIDES, SIDES, st.integers(1, 3000))
def test_the_longer_side_is_within_its_bound_and_never_longer_than_it_was(width, height, longest):
    new_width, new_height = batch_size_px(width, height, longest)
    assert max(new_width, new_height) == min(max(width, height), longest)
    assert min(new_width, new_height) >= 1


@pytest.mark.parametrize("how", FITS)
def test_a_picture_of_the_size_asked_for_keeps_its_pixels(how):
    picture = torch.randint(0, 256, (7, 9, 3), dtype=torch.uint8)
    assert fit_picture(picture, 9, 7, how) is picture


def test_padding_shows_all_of_a_picture_on_black_and_cropping_fills_the_size():
    white = torch.full((10, 20, 3), 255, dtype=torch.uint8)
    padded, cropped = (fit_picture(white, 20, 20, how) for how in ("pad", "crop"))
    assert padded.shape == cropped.shape == (20, 20, 3) and cropped.min() == 255
    assert padded[5:15].min() == 255 and padded[:5].max() == 0 and padded[15:].max() == 0


def test_a_batch_is_filled_in_place_and_has_what_was_put_in():
    batch = Batch(3, 3, 2, "pad")
    picture = torch.randint(0, 256, (2, 3, 3), dtype=torch.uint8)
    batch.put(picture)
    batch.put(torch.full((2, 3, 3), 255, dtype=torch.uint8))
    assert batch.images.shape == (2, 2, 3, 3) and not batch.is_full
    batch.repeat(0)
    assert batch.is_full and torch.equal(batch.images[2], picture.float() / 255)
    assert torch.equal(batch.images[0], batch.images[2]) and batch.images[1].min() == 1
    assert picture_bytes(3, 2) == batch.images[0].nbytes
