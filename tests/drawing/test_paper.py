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


@given(st.text(max_size=60), st.integers(20, 300))
def test_a_line_is_never_wider_than_its_room_and_is_the_text_or_its_beginning(text, width_px):
    line = paper.fit_line(DRAW, text, FONT, width_px)
    assert DRAW.textlength(line, FONT) <= width_px
    assert line == paper.one_line(text) or (line[-1] == "…" and paper.one_line(text).startswith(line[:-1]))


@given(st.text("ab .", min_size=30, max_size=60))
def test_what_is_dropped_before_the_end_never_stands_there(text):
    line = paper.cut(DRAW, text, FONT, 60, "...", ".")
    assert line == text or (line.endswith("...") and not line[:-3].endswith("."))


@given(st.lists(st.text("abcd", min_size=1, max_size=9), max_size=20), st.integers(60, 300))
def test_folded_lines_hold_every_word_in_its_order_and_fit(words, width_px):
    lines = paper.fold_lines(DRAW, " ".join(words), FONT, width_px)
    assert " ".join(lines).split() == words
    assert all(DRAW.textlength(line, FONT) <= width_px or " " not in line for line in lines)


@given(st.text(max_size=40))
def test_drawable_text_has_latin_letters_only(text):
    shown = paper.drawable(text)
    assert all(letter.isprintable() and letter < "\u0250" for letter in shown)
    assert len(paper.drawable(text, "?")) == len(text)


def test_a_letter_that_the_font_lacks_is_shown_by_its_number():
    assert paper.drawable("a猫") == "a<732b>" and paper.drawable("a猫", "?") == "a?"


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
