"""A prompt's tokens as a picture: colours by emphasis, room for every token."""

import pytest
import torch

from clip_vae_lora.drawing.token_sheet import MAX_CHUNKS, Mark, Strip, colour_of, token_sheet


def chunk(tokens: int, emphasis: float = 1.0) -> Strip:
    return Strip("chunk 1", [Mark("word", emphasis)] * tokens, 77)


def test_colours_are_white_at_one_and_full_at_a_distance_of_one():
    assert colour_of(1.0) == (255, 255, 255)
    assert colour_of(2.0) == colour_of(50.0) and colour_of(0.0) == colour_of(-3.0) != colour_of(2.0)
    red, _, blue = colour_of(1.5)
    assert red > blue and colour_of(0.5)[2] > colour_of(0.5)[0]


@pytest.mark.parametrize("width_px", [300, 1024])
def test_a_sheet_grows_with_its_tokens_and_keeps_its_width(width_px):
    heights = [token_sheet([("CLIP-L", [chunk(count)])], width_px=width_px).shape[1] for count in (1, 40, 75)]
    assert heights == sorted(heights) and heights[0] < heights[2]
    assert token_sheet([], width_px=width_px).shape[2:] == (width_px, 3)


def test_emphasis_changes_the_picture_and_not_its_width():
    plain, strong = (token_sheet([("L", [chunk(5, emphasis)])]) for emphasis in (1.0, 1.4))
    assert plain.shape[2] == strong.shape[2] and not torch.equal(plain, strong)


def test_more_chunks_than_are_drawn_are_counted():
    most, more, many = (
        token_sheet([("L", [chunk(2)] * count)]).shape[1] for count in (MAX_CHUNKS, MAX_CHUNKS + 1, MAX_CHUNKS + 90)
    )
    assert most < more == many
