"""Pictures a little changed: from numbers alone, and not at all where nothing is to be changed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from clip_vae_lora.clip_core.features.preprocess import square_of
from clip_vae_lora.training.clip.augment import NUMBERS, Augmentation, augmented, cut_of, draw_numbers

PICTURE = torch.randint(0, 256, (3, 20, 31), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
_UNIT = some.floats(0, 1, exclude_max=True)


@given(some.integers(1, 400), some.integers(1, 400), some.floats(0.01, 1), some.lists(_UNIT, min_size=4, max_size=4))
def test_a_cut_lies_within_the_picture(height, width, least, numbers):
    top, left, tall, wide = cut_of(height, width, least, numbers)
    assert top >= 0 and left >= 0 and tall >= 1 and wide >= 1 and top + tall <= height and left + wide <= width


@given(some.integers(30, 400), some.floats(0.05, 0.7), some.lists(_UNIT, min_size=4, max_size=4))
def test_a_cut_of_a_square_has_at_least_the_area_asked_for(side, least, numbers):
    _, _, tall, wide = cut_of(side, side, least, numbers)
    assert tall * wide >= (least - 0.05) * side * side  # whole pixels: up to half of one along each side


def test_nothing_changed_is_what_the_model_looks_at_otherwise():
    got = augmented(PICTURE, 16, "crop", torch.rand(NUMBERS), Augmentation(crop=1.0))
    assert torch.equal(got, square_of(PICTURE, 16, "crop").float() / 255)


@pytest.mark.parametrize("how", [Augmentation(0.3, True, 0.4), Augmentation(1.0, False, 0.9), Augmentation(0.5)])
def test_the_same_numbers_make_the_same_picture_and_others_another(how):
    generator = torch.Generator().manual_seed(1)
    first, second = draw_numbers(2, generator)
    one = augmented(PICTURE, 16, "crop", first, how)
    assert torch.equal(one, augmented(PICTURE, 16, "crop", first, how)) and one.shape == (3, 16, 16)
    assert not torch.equal(one, augmented(PICTURE, 16, "crop", second, how))
    assert float(one.min()) >= 0 and float(one.max()) <= 1


def test_half_of_the_numbers_mirror():
    plain = augmented(PICTURE, 16, "crop", torch.full((NUMBERS,), 0.9), Augmentation(1.0, True))
    mirrored = augmented(PICTURE, 16, "crop", torch.full((NUMBERS,), 0.1), Augmentation(1.0, True))
    assert torch.equal(mirrored, plain.flip(-1)) and not torch.equal(mirrored, plain)


def test_shares_that_are_none_are_refused():
    for wrong in ({"crop": 0.0}, {"crop": 1.1}, {"jitter": 1.0}, {"jitter": -0.1}):
        with pytest.raises(ValueError, match="expected a share"):
            Augmentation(**wrong)
