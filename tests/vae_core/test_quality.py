"""SSIM against a reference in plain loops, the divergence against torch's own, and the laws of the ways."""

import math

import numpy as np
import pytest
import torch

from clip_vae_lora.vae_core.quality import between, kl_by_channel, slerp, ssim


def ssim_in_loops(x, y):
    """Equations 13 and 14 to 16 of Wang et al. 2004 for one channel, window by window."""
    side = np.arange(11) - 5
    window = np.exp(-(side[:, None]**2 + side[None]**2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = (t[top:top + 11, left:left + 11] for t in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a)**2).sum(), (window * (b - mean_b)**2).sum()
            both = (window * (a - mean_a) * (b - mean_b)).sum()
            found.append((2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
                         / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    return np.mean(found)


def test_ssim_is_the_papers_formula():
    x = torch.rand(2, 3, 17, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (x + 0.2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).clamp(0, 1)
    wanted = [np.mean([ssim_in_loops(x[i, c].numpy(), y[i, c].numpy()) for c in range(3)]) for i in range(2)]
    torch.testing.assert_close(ssim(x, y), torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-12)


def test_ssim_is_scikit_images():
    metrics = pytest.importorskip("skimage.metrics")
    x, y = torch.rand(2, 1, 1, 40, 30, dtype=torch.float64)
    wanted, full = metrics.structural_similarity(x[0, 0].numpy(), y[0, 0].numpy(), gaussian_weights=True, sigma=1.5,
                                                 use_sample_covariance=False, data_range=1.0, full=True)
    assert ssim(x, y).item() == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-12)


def test_equal_pictures_have_ssim_one_and_it_is_symmetric():
    x, y = torch.rand(2, 1, 3, 12, 13)
    assert ssim(x, x).item() == pytest.approx(1.0, abs=1e-12)
    assert torch.equal(ssim(x, y), ssim(y, x))


def test_pictures_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="window of 11 px: a picture of 10 x 20 px is too small"):
        ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))
    with pytest.raises(ValueError, match="of one size are compared"):
        ssim(torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 21))


def test_the_divergence_of_each_channel_is_that_of_torch_distributions():
    mean, logvar = torch.randn(2, 2, 4, 3, 5)
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(mean, (logvar / 2).exp()), normal(0.0, 1.0)).sum((2, 3))
    torch.testing.assert_close(kl_by_channel(mean, logvar), wanted)


@pytest.mark.parametrize("way", [between, slerp])
def test_both_ways_begin_and_end_where_they_should(way):
    a, b = torch.randn(2, 3, 4, 5, 6)
    torch.testing.assert_close(way(a, b, 0.0), a)
    torch.testing.assert_close(way(a, b, 1.0), b)


def test_slerp_turns_by_a_share_of_the_angle_and_changes_length_evenly():
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    wanted = 2.5 * torch.tensor([[math.cos(math.pi / 8), math.sin(math.pi / 8)]])
    torch.testing.assert_close(slerp(a, b, 0.25), wanted)


def test_slerp_of_noise_is_noise_where_the_straight_way_shrinks_it():
    a, b = torch.randn(2, 1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    assert slerp(a, b, 0.5).std().item() == pytest.approx(1.0, abs=0.02)
    assert between(a, b, 0.5).std().item() == pytest.approx(math.sqrt(0.5), abs=0.02)


@pytest.mark.parametrize("a, b", [([1.0, 2.0], [3.0, 6.0]), ([1.0, 2.0], [-1.0, -2.0]), ([0.0, 0.0], [1.0, 2.0])],
                         ids=["one direction", "opposite", "zero"])
def test_collinear_vectors_go_the_straight_way(a, b):
    a, b = torch.tensor([a]), torch.tensor([b])
    torch.testing.assert_close(slerp(a, b, 0.3), between(a, b, 0.3))


def test_each_item_of_a_batch_goes_its_own_way():
    a, b = torch.randn(2, 3, 8)
    together = slerp(a, b, 0.4)
    torch.testing.assert_close(together, torch.cat([slerp(a[i:i + 1], b[i:i + 1], 0.4) for i in range(3)]))
