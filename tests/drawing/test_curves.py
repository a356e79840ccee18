"""Two prompts as curves: the size asked for, gaps where there is no value, one picture for each pair."""

import pytest
import torch

from clip_vae_lora.drawing.curves import TokenCurves, token_plot, token_plots


def test_a_plot_has_the_size_asked_for_and_shows_the_numbers():
    first, other = (
        token_plot(TokenCurves("t", [value, 0.5], [1.0, 2.0], [1.0, 2.0]), width_px=500, height_px=400)
        for value in (0.1, 0.9)
    )
    assert first.shape == (1, 400, 500, 3) and 0 <= first.min() and first.max() <= 1 and not first.equal(other)


def test_tokens_without_a_cosine_and_without_a_length_are_gaps():
    gaps = token_plot(TokenCurves("t", [None, 0.5, None], [None, 1.0], [1.0, None, 2.0], borders=(1,)))
    whole = token_plot(TokenCurves("t", [0.5, 0.5, 0.5], [1.0, 1.0, 1.0], [1.0, 1.0, 2.0], borders=(1,)))
    assert gaps.shape == whole.shape and not gaps.equal(whole)


def test_a_title_is_never_read_as_a_formula():
    assert token_plot(TokenCurves("$\\frac{$ 100 %", [1.0], [1.0], [1.0])).shape == (1, 800, 1024, 3)


def test_every_pair_has_a_picture_of_its_own():
    curves = [TokenCurves("t", [0.5], [1.0], [length]) for length in (1.0, 2.0)]
    both = token_plots(curves)
    assert torch.equal(both[1:], token_plot(curves[1])) and len(both) == 2


def test_nothing_to_draw_is_one_sentence():
    with pytest.raises(ValueError, match="a plot needs a token"):
        token_plot(TokenCurves("t", [], [], []))
