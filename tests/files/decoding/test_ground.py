"""Transparency is laid over a ground, so that drawings on nothing are told apart."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from clip_vae_lora.files.pictures import read_rgb, read_square


def drawing(shape: str) -> Image.Image:
    picture = Image.new("RGBA", (96, 96), (0, 0, 0, 0))
    getattr(ImageDraw.Draw(picture), shape)((20, 20, 76, 76), outline=(0, 0, 0, 255), width=4)
    return picture


@pytest.mark.parametrize(("ground", "level"), [("white", 255), ("gray", 128), ("black", 0)])
def test_what_is_transparent_has_the_colour_of_the_ground(tmp_path, ground, level):
    drawing("ellipse").save(tmp_path / "a.png")
    found = read_rgb(tmp_path / "a.png", ground)
    assert (found[0, 0] == level).all() and (found[48, 21] == 0).all()


def test_two_drawings_on_nothing_are_two_pictures(tmp_path):
    squares = []
    for shape in ("ellipse", "rectangle"):
        drawing(shape).save(tmp_path / f"{shape}.png")
        squares.append(read_square(tmp_path / f"{shape}.png", 32))
    assert not torch.equal(*squares)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_every_way_to_be_transparent_is_seen_and_told(tmp_path, mode):
    picture = drawing("ellipse").convert("RGBA" if mode in ("P", "L", "RGB") else mode)
    if mode in ("P", "L", "RGB"):
        picture = Image.new("RGBA", picture.size, "white").convert(mode)
        picture.paste(0 if mode != "RGB" else (0, 0, 0), (30, 30, 60, 60))
        clear = picture.getpixel((40, 40))
        picture.save(tmp_path / "a.png", transparency=clear)
    else:
        picture.save(tmp_path / "a.png")
    told = []
    square = read_square(tmp_path / "a.png", 32, on_transparent=told.append)
    assert told == [tmp_path / "a.png"] and (square.float().mean() > 200)


def test_a_picture_whose_alpha_hides_nothing_is_not_told(tmp_path):
    Image.fromarray(np.full((8, 8, 4), 255, np.uint8)).save(tmp_path / "a.png")
    told = []
    read_square(tmp_path / "a.png", 8, on_transparent=told.append)
    assert not told


@pytest.mark.parametrize("size", [(40, 10), (10, 40), (300, 7), (33, 33)])
def test_pad_shows_the_whole_picture_in_the_middle(tmp_path, size):
    Image.new("RGB", size, (10, 20, 30)).save(tmp_path / "a.png")
    square = read_square(tmp_path / "a.png", 32, "pad", ground="gray")
    inner = (square == torch.tensor([10, 20, 30]).view(3, 1, 1)).all(0)
    wide, tall = (max(1, round(32 * side / max(size))) for side in size)
    assert inner.sum() == wide * tall and (square[:, ~inner] == 128).all()
    assert inner[16, 16] or min(wide, tall) == 1
