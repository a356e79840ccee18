"""Pictures put into a folder under names made from their pixels."""

import pytest
import torch

from clip_vae_lora.files.images import read_image
from clip_vae_lora.index.adding import add_picture
from clip_vae_lora.index.scan import scan


def test_a_picture_is_added_once_however_often_it_is_given(tmp_path):
    image = torch.rand(4, 6, 3)
    assert add_picture(tmp_path, image, {"prompt": "p"}) and not add_picture(tmp_path, image.clone(), {})
    assert len(scan(tmp_path, recursive=False).pictures) == 1


def test_other_pixels_and_other_shapes_of_the_same_bytes_are_other_pictures(tmp_path):
    image = torch.zeros(2, 6, 3)
    other = image.clone()
    other[0, 0, 0] = 1
    assert all(add_picture(tmp_path, picture, {}) for picture in (image, other, image.reshape(3, 4, 3)))
    assert len(list(tmp_path.iterdir())) == 3


def test_the_file_has_the_pictures_pixels(tmp_path):
    image = torch.arange(48, dtype=torch.float32).reshape(4, 4, 3) / 255
    add_picture(tmp_path, image, {})
    (path,) = tmp_path.iterdir()
    assert torch.equal((read_image(path)[0][0] * 255).round(), (image * 255).floor())  # cut to 8 bits, as ComfyUI does


def test_a_picture_with_pixels_that_are_no_numbers_is_refused(tmp_path):
    with pytest.raises(ValueError, match="NaN"):
        add_picture(tmp_path, torch.full((2, 2, 3), float("nan")), {})
    assert not list(tmp_path.iterdir())
