"""SSIM against its definition, written out window by window, and its laws."""

import math

import pytest
import torch

from clip_vae_lora.vae_core.quality import ssim

ROUNDING = 1e-12  # both in float64: what is left is the order of additions


def pictures(batch=2, height=16, width=19, channels=3, noise=0.2):
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(batch, height, width, channels, generator=generator)
    return first, (first + noise * torch.randn(first.shape, generator=generator)).clamp(0, 1)


def by_definition(x, y) -> float:
    """The formulas of Wang et al. 2004 (equations 13 to 17), one window at a time, of [H, W] in float64."""
    places = torch.arange(-5, 6, dtype=torch.float64)
    weights = torch.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = (t[top : top + 11, left : left + 11].double() for t in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            found.append(
                (2 * mean_a * mean_b + 1e-4)
                * (2 * covariance + 9e-4)
                / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
            )
    return float(sum(found) / len(found))


def test_ssim_is_its_definition_channel_by_channel():
    first, second = pictures()
    for row, value in enumerate(ssim(first, second).tolist()):
        expected = [by_definition(first[row, ..., c], second[row, ..., c]) for c in range(3)]
        assert math.isclose(value, sum(expected) / 3, abs_tol=ROUNDING)


def test_ssim_is_scikit_images():
    metrics = pytest.importorskip("skimage.metrics", reason="needs scikit-image")
    first, second = pictures(1)
    expected = metrics.structural_similarity(
        first[0].double().numpy(),
        second[0].double().numpy(),
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert math.isclose(ssim(first, second).item(), expected, abs_tol=1e-9)  # theirs blurs by scipy


def test_equal_pictures_have_an_ssim_of_exactly_one_and_the_order_does_not_matter():
    first, second = pictures()
    assert ssim(first, first).tolist() == [1.0, 1.0]
    assert torch.equal(ssim(first, second), ssim(second, first))


def test_more_noise_is_less_alike_and_a_negative_is_below_zero():
    values = [ssim(*pictures(noise=noise)).mean() for noise in (0.01, 0.1, 0.5)]
    assert values[0] > values[1] > values[2] and values[0] < 1
    first, _ = pictures()
    assert (ssim(first, 1 - first) < 0).all()


def test_the_smallest_picture_is_one_window_and_a_smaller_one_is_refused():
    assert ssim(*pictures(height=11, width=11)).shape == (2,)
    with pytest.raises(ValueError, match="11 px or more"):
        ssim(*pictures(height=10))
    with pytest.raises(ValueError, match="of one shape"):
        ssim(pictures()[0], pictures(height=17)[1])
