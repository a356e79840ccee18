"""The five errors of a reconstruction against their definitions, and what they are blind to."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from clip_vae_lora.training.losses import vae_loss
from clip_vae_lora.training.vae.losses import (
    Weights,
    error_of_scales,
    errors_of,
    spectrum_error,
    squared_error,
    weighted,
)

ALL = Weights(1.0, 2.0, 3.0, 4.0, 5.0)


def _pair(side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(2, 3, side, side + 4, generator=generator) * 2 - 1 for _ in range(2))
    return first, second


def test_each_error_is_told_by_itself_and_the_loss_is_their_weighted_sum():
    pixels, made = _pair()
    errors = errors_of(pixels, made, ALL)
    assert list(errors) == ["absolute", "squared", "scales", "edges", "spectrum"]
    by_hand = sum(weight * float(errors[name]) for name, weight in zip(errors, (1, 2, 3, 4, 5)))
    assert float(weighted(errors, ALL)) == pytest.approx(by_hand, rel=1e-5)  # float32 sums of five numbers
    only = errors_of(pixels, made, Weights(0, 0, 0, 0.5))
    assert list(only) == ["edges"] and float(only["edges"]) == float(errors["edges"])


def test_the_errors_are_those_of_numpy_in_float64():
    pixels, made = (one.double().numpy() for one in _pair())
    error = made - pixels
    found = errors_of(*_pair(), ALL)
    edges = (np.abs(np.diff(error, axis=-1)).mean() + np.abs(np.diff(error, axis=-2)).mean()) / 2
    log_amplitude = [np.log(np.abs(np.fft.rfft2(one, norm="ortho")) + 2 / 255) for one in (pixels, made)]
    expected = {
        "absolute": np.abs(error).mean(),
        "squared": (error**2).mean(),
        "edges": edges,
        "spectrum": np.abs(log_amplitude[0] - log_amplitude[1]).mean(),
    }
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-4), name  # float32 FFTs and means


def test_the_error_of_scales_is_the_mean_over_pictures_made_1_2_4_and_8_times_smaller():
    pixels, made = _pair()
    error = made - pixels
    each = [error.abs().mean(), *(avg_pool2d(error, px).abs().mean() for px in (2, 4, 8))]
    assert torch.allclose(error_of_scales(error), torch.stack(each).mean())
    small = error[..., :3, :3]  # has room for 1 and 2 px alone
    assert torch.allclose(
        error_of_scales(small), torch.stack([small.abs().mean(), avg_pool2d(small, 2).abs().mean()]).mean()
    )


def test_a_checkerboard_is_no_error_of_large_scales_and_a_shift_of_colour_is_one_at_all():
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)[None, None]
    assert float(error_of_scales(board)) == pytest.approx(1 / 4)
    assert float(error_of_scales(torch.full((1, 1, 8, 8), 0.25))) == pytest.approx(0.25)


def test_the_spectrum_sees_blur_and_not_where_things_are():
    generator = torch.Generator().manual_seed(1)
    picture = torch.randn(1, 1, 32, 32, generator=generator)
    moved = picture.roll((5, 7), (-1, -2))
    blurred = torch.nn.functional.interpolate(avg_pool2d(picture, 2), scale_factor=2)
    assert float(spectrum_error(picture, moved)) < 1e-3 < 0.3 < float(spectrum_error(picture, blurred))
    assert float(squared_error(moved - picture)) > float(squared_error(blurred - picture))


def test_equal_pictures_have_no_error_and_finite_gradients():
    made = torch.zeros(1, 3, 16, 16, requires_grad=True)
    loss = weighted(errors_of(torch.zeros(1, 3, 16, 16), made, ALL), ALL)
    loss.backward()
    assert float(loss) == 0 and bool(made.grad.isfinite().all())


def test_the_recipe_of_the_bundled_vae_has_the_same_errors():
    pixels, made = _pair()
    errors = errors_of(pixels, made, ALL)
    loss = vae_loss(pixels, made, torch.zeros(4), kl_weight=0.0, edge_weight=0.5)
    assert torch.equal(loss.absolute, errors["absolute"]) and torch.equal(loss.edges, errors["edges"])


@pytest.mark.parametrize("weights", [(-1.0,), (math.nan,), (0, 0, 0, 0, 0, 1.0), (math.inf,)])
def test_weights_that_say_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="expected numbers of 0 or more, and one above 0"):
        Weights(*weights)


def test_pictures_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="the reconstruction is"):
        errors_of(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 8), ALL)
