"""The ground of every drawing: text that fits its room, letters that the font has, pictures that keep their shape."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from clip_vae_lora.drawing import paper

FONT = paper.letters(14)
DRAW = ImageDraw.Draw(Image.new("RGB", (1, 1)))


def is_a_box(letter: str, font: paper.Font) -> bool:
    """Whether the letter is drawn as one that no font has."""
    return bytes(font.getmask(letter)) == bytes(font.getmask("\U0010ffff"))


@given(st.text(max_size=60), st.integers(20, 300))
def test_a_line_is_never_wider_than_its_room_and_is_the_text_or_its_beginning(text, width_px):
    line = paper.fit_line(DRAW, text, FONT, width_px)
    assert DRAW.textlength(line, FONT) <= width_px
    assert line == paper.one_line(text) or (line[-1] == "…" and paper.one_line(text).startswith(line[:-1]))


@given(st.text("ab .", min_size=30, max_size=60))
def test_what_is_dropped_before_the_end_never_stands_there(text):
    line = paper.cut(DRAW, text, FONT, 60, "...", ".")
    assert line == text or (line.endswith("...") and not line[:-3].endswith("."))


@given(st.text(max_size=40))
def test_drawable_text_has_no_letter_that_the_font_lacks(text):
    assert not [letter for letter in paper.drawable(text) if is_a_box(letter, FONT)]
    assert len(paper.drawable(text, "?")) == len(text)


def test_a_letter_that_the_font_lacks_is_shown_by_its_number():
    assert paper.drawable("a猫") == "a<732b>" and paper.drawable("a猫é", "?") == "a??"


def test_letters_that_the_built_in_font_lacks_are_drawn_by_a_font_of_this_machine_that_has_them():
    assert not isinstance(paper.letters(14, "a cat").path, str)  # the built-in one, which lies in no file
    for text in ("Bär, rosé", "红色圆形"):
        font = paper.letters(14, "a cat", text)
        if not isinstance(font.path, str):
            pytest.skip(f"this machine has no font with {text}")
        assert paper.drawable(text, font=font) == text
        assert not [letter for letter in text if letter != " " and is_a_box(letter, font)]


@pytest.mark.parametrize(
    "shape, size", [((40, 20, 3), (20, 40)), ((10, 20, 4), (40, 20)), ((1, 7, 7, 3), (40, 40)), ((1, 900, 3), (40, 1))]
)
def test_a_picture_in_a_square_keeps_its_proportions(shape, size):
    assert paper.within_square(torch.rand(shape), 40).size == size


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 3), (4, 4, 1), (2, 4)])
def test_no_picture_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=r"a thumbnail is a picture \[height, width, 3\]"):
        paper.within_square(torch.zeros(shape), 40)


def test_pixels_that_are_no_numbers_or_out_of_range_are_drawn_within_it():
    picture = torch.tensor([math.nan, -1.0, 2.0]).expand(2, 2, 3)
    assert np.asarray(paper.within_square(picture, 2))[0, 0].tolist() == [0, 0, 255]


def test_an_image_has_every_8_bit_value_as_its_share_of_255():
    values = torch.arange(256, dtype=torch.uint8).reshape(16, 16, 1).expand(16, 16, 3).numpy()
    image = paper.as_image(Image.fromarray(values))
    assert image.shape == (1, 16, 16, 3) and image.dtype == torch.float32
    assert torch.equal(image[0], torch.from_numpy(values.astype(np.float32)) / 255)


def test_a_picture_is_pasted_into_the_middle():
    canvas = Image.new("RGB", (12, 12))
    paper.paste_centred(canvas, Image.new("RGB", (2, 6), (255, 0, 0)), (1, 2), 8)
    assert canvas.getbbox() == (4, 3, 6, 9)
