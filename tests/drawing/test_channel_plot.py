"""The picture of a distribution's channels."""

import pytest

from clip_vae_lora.drawing.channel_plot import channel_plot


def test_a_plot_has_the_size_asked_for_and_shows_the_numbers():
    first = channel_plot([1.0, 2.0], [0.0, 0.1], [1.0, 1.0], [0.5, 0.5], width_px=500, height_px=400)
    other = channel_plot([2.0, 1.0], [0.0, 0.1], [1.0, 1.0], [0.5, 0.5], width_px=500, height_px=400)
    assert first.shape == (1, 400, 500, 3) and 0 <= first.min() and first.max() <= 1 and not first.equal(other)


def test_every_channel_of_the_widest_latent_is_drawn():
    numbers = [float(place) for place in range(128)]
    assert channel_plot(numbers, numbers, numbers, numbers).shape == (1, 800, 1024, 3)


@pytest.mark.parametrize("numbers", [([], [], [], []), ([1.0], [1.0, 2.0], [1.0], [1.0])])
def test_no_channels_or_not_as_many_numbers_are_one_sentence(numbers):
    with pytest.raises(ValueError, match="one number of each kind for each channel"):
        channel_plot(*numbers)
