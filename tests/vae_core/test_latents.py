"""Laws of interpolation, of the prior, and of the divergence by channel."""

import math

import pytest
import torch

from clip_vae_lora.vae_core.config import FAMILIES
from clip_vae_lora.vae_core.latents import bits_per_pixel, channel_statistics, interpolate, prior
from clip_vae_lora.vae_core.posterior import Posterior

from ..support.model_space import to_model_space

ROUNDING = 1e-6  # computed in float64, rounded to float32


def noise(batch=1, seed=0, shape=(4, 6, 5)):
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spherical", [False, True])
def test_the_ends_are_the_latents_themselves_bit_for_bit(spherical):
    first, second = noise(2), noise(2, 1)
    mixed = interpolate(first, second, [0.0, 1.0], spherical=spherical).latent
    assert torch.equal(mixed[0::2], first) and torch.equal(mixed[1::2], second)


def test_linear_is_the_weighted_mean():
    first, second = noise(2), noise(2, 1)
    mixed = interpolate(first, second, [0.25], spherical=False).latent
    assert (mixed - (0.75 * first + 0.25 * second)).abs().max() <= ROUNDING


def test_a_quarter_of_a_right_angle_is_cosine_and_sine():
    first, second = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    first[0, 0], second[0, 1] = 1.0, 1.0
    mixed = interpolate(first, second, [0.25], spherical=True).latent.flatten()
    expected = torch.tensor([math.cos(math.pi / 8), math.sin(math.pi / 8)])
    assert (mixed - expected).abs().max() <= ROUNDING


def test_on_the_arc_the_length_goes_linearly_and_the_angle_in_even_steps():
    first, second = noise(3), 2.5 * noise(3, 1)
    factors = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    mixed = interpolate(first, second, factors, spherical=True).latent.double().view(3, 6, -1)
    lengths = mixed.norm(dim=2)
    a, b = first.double().flatten(1).norm(dim=1), second.double().flatten(1).norm(dim=1)
    for place, t in enumerate(factors):
        assert (lengths[:, place] - ((1 - t) * a + t * b)).abs().max() <= 1e-5  # lengths of about 30, in float32
    directions = mixed / lengths[..., None]
    angles = (directions[:, 1:] * directions[:, :-1]).sum(2).acos()
    assert (angles - angles[:, :1]).abs().max() <= 1e-5


def test_there_and_back_meet_at_the_same_places():
    first, second = noise(2), noise(2, 1)
    there = interpolate(first, second, [0.3], spherical=True).latent
    back = interpolate(second, first, [0.7], spherical=True).latent
    assert (there - back).abs().max() <= ROUNDING


@pytest.mark.parametrize("ratio", [1.0, 3.0, 1 + 1e-7])
def test_latents_of_one_direction_are_mixed_by_their_length(ratio):
    first = noise()
    mixed = interpolate(first, first * ratio, [0.5], spherical=True)
    assert (mixed.latent - first * (1 + ratio) / 2).abs().max() <= 2 * ROUNDING and not mixed.straight.any()


def test_opposite_and_zero_latents_are_mixed_linearly_and_said():
    first = noise(3)
    second = torch.stack([-first[0], torch.zeros_like(first[1]), first[2].roll(1)])
    mixed = interpolate(first, second, [0.25], spherical=True)
    assert mixed.straight.tolist() == [True, True, False]
    assert (mixed.latent[:2] - (0.75 * first + 0.25 * second)[:2]).abs().max() <= ROUNDING
    both = interpolate(torch.zeros_like(first), torch.zeros_like(first), [0.5], spherical=True)
    assert torch.equal(both.latent, torch.zeros_like(first))


def test_every_sample_turns_as_a_whole_and_apart_from_the_others():
    first, second = noise(3), noise(3, 1)
    together = interpolate(first, second, [0.4, 0.7], spherical=True).latent
    alone = [interpolate(first[i : i + 1], second[i : i + 1], [0.4, 0.7], spherical=True).latent for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_one_latent_goes_with_each_of_many_and_video_latents_are_latents():
    assert interpolate(noise(1), noise(3, 1), [0.5, 1.0], spherical=True).latent.shape == (6, 4, 6, 5)
    assert interpolate(noise(3), noise(1, 1), [0.5], spherical=True).latent.shape == (3, 4, 6, 5)
    video = noise(2, shape=(4, 3, 2, 2))
    assert interpolate(video, video.flip(3), [0.5], spherical=True).latent.shape == video.shape


def test_what_comes_out_has_the_firsts_type():
    mixed = interpolate(noise().half(), noise(1, 1), [0.5], spherical=True).latent
    assert mixed.dtype == torch.float16


def test_other_shapes_and_numbers_are_refused_in_one_sentence():
    for second, said in (
        (noise(shape=(16, 6, 5)), "of one shape"),
        (noise(shape=(4, 5, 6)), "of one shape"),
        (noise(3), "there are 2 and 3"),
    ):
        with pytest.raises(ValueError, match=said):
            interpolate(noise(2), second, [0.5], spherical=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prior_is_standard_normal_where_the_familys_model_works(family):
    drawn = prior((4, FAMILIES[family].latent, 32, 32), 7, family)
    normal = to_model_space(drawn, family)
    cells = normal[0, 0].numel() * 4
    assert (normal.mean((0, 2, 3)).abs() < 6 / cells**0.5).all()  # six standard errors of the mean
    assert (normal.transpose(0, 1).flatten(1).std(1) - 1).abs().max() < 6 / (2 * cells) ** 0.5


def test_a_seed_gives_the_same_first_latent_in_every_batch_and_another_seed_another():
    one, many = prior((1, 4, 8, 8), 5, "sd1"), prior((3, 4, 8, 8), 5, "sd1")
    assert torch.equal(one[0], many[0]) and not torch.equal(many[0], many[1])
    assert not torch.equal(one, prior((1, 4, 8, 8), 6, "sd1")) and one.dtype == torch.float32


def test_without_a_family_the_prior_is_the_noise_itself():
    assert torch.allclose(to_model_space(prior((2, 4, 3, 3), 1, "sdxl"), "sdxl"), prior((2, 4, 3, 3), 1), atol=1e-5)


def test_a_cell_of_each_family_has_the_published_size():
    assert {name: family.px_per_cell for name, family in FAMILIES.items()} == {
        name: {"upscaler": 4, "flux2": 16, "sana": 32}.get(name, 8) for name in FAMILIES
    }


def test_the_divergence_by_channel_sums_to_the_posteriors_own():
    posterior = Posterior(noise(3).double(), noise(3, 1).double())
    found = channel_statistics(posterior.mean, posterior.logvar)
    assert found.kl.shape == (4,)
    assert math.isclose(found.kl.sum(), posterior.kl().mean(), rel_tol=1e-12)


def test_the_divergence_is_torchs():
    mean, logvar = noise(2).double(), noise(2, 1).double()
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (logvar / 2).exp()),
        torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean)),
    )
    assert torch.allclose(channel_statistics(mean, logvar).kl, theirs.sum((2, 3)).mean(0), rtol=1e-12)


def test_the_standard_normal_tells_nothing_and_its_numbers_are_zero_and_one():
    found = channel_statistics(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2))
    numbers = [values.tolist() for values in (found.kl, found.mean, found.std, found.noise)]
    assert numbers == [[0.0] * 3, [0.0] * 3, [0.0] * 3, [1.0] * 3]
    assert channel_statistics(torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)).std.tolist() == [0.0] * 3


def test_bits_are_nats_by_log_two():
    assert math.isclose(bits_per_pixel(torch.tensor([math.log(2) * 30, math.log(2) * 34]), 4, 8), 2.0, rel_tol=1e-6)
