"""Flow matching and sampling, against flows whose answer is known."""

import math

import pytest
import torch
from torch import Tensor

from clip_vae_lora.diffusion.config import DiffusionConfig, DiffusionError
from clip_vae_lora.diffusion.flow import draw_levels, flow_loss, mixed, schedule, shifted
from clip_vae_lora.diffusion.network import Denoiser, initialise_
from clip_vae_lora.diffusion.sampling import SAMPLERS, euler, guided, heun
from clip_vae_lora.training.loop import TrainingPlan, fit


def test_the_line_begins_at_the_picture_and_ends_at_the_noise():
    latent, noise = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    points = mixed(latent, noise, torch.tensor([0.0, 1.0, 0.25]))
    assert torch.equal(points[0], latent[0]) and torch.equal(points[1], noise[1])
    torch.testing.assert_close(points[2], 0.75 * latent[2] + 0.25 * noise[2])


def test_the_loss_is_zero_at_the_lines_own_velocity_and_the_mean_square_elsewhere():
    latent, noise = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    assert flow_loss(noise - latent, latent, noise) == 0
    assert float(flow_loss(noise - latent + 0.5, latent, noise)) == pytest.approx(0.25, rel=1e-5)


def test_levels_are_those_of_stable_diffusion_3():
    drawn = draw_levels(20_000, torch.Generator().manual_seed(0), 3.0).double()
    assert 0 < drawn.min() and drawn.max() < 1
    unshifted = drawn / (3 - 2 * drawn)
    logit = torch.log(unshifted / (1 - unshifted))
    assert float(logit.mean()) == pytest.approx(0, abs=0.03)  # four deviations of the mean of 20,000
    assert float(logit.std()) == pytest.approx(1, abs=0.03)
    assert shifted(torch.tensor([0.0, 0.5, 1.0]), 2.0).tolist() == pytest.approx([0, 2 / 3, 1])
    assert schedule(4, 1.0).tolist() == [1, 0.75, 0.5, 0.25, 0]


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_the_flow_to_one_picture_is_straight_and_followed_exactly(sampler):
    picture, noise = torch.randn(1, 4, 2, 2).double(), torch.randn(1, 4, 2, 2).double()
    seen = []
    found = sampler(
        lambda x, level: (x - picture) / level, noise, schedule(7, 2.0).tolist(), on_step=lambda *n: seen.append(n)
    )
    torch.testing.assert_close(found, picture, atol=1e-12, rtol=0)  # float64
    assert seen == [(n, 7) for n in range(1, 8)]


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2)])
def test_errors_fall_with_the_order_of_the_sampler(sampler, order: int):
    """Pictures of a normal distribution of deviation s: the velocity is linear in x, and the flow ends at s * noise."""
    s = 0.5

    def velocity(x: Tensor, level: float) -> Tensor:
        variance = (s * (1 - level)) ** 2 + level**2
        return x * (level - s**2 * (1 - level)) / variance

    def error(steps: int) -> float:
        found = sampler(velocity, torch.ones(1, 1, 1, 1).double(), schedule(steps, 1.0).tolist())
        return abs(float(found) - s)

    assert math.log2(error(40) / error(80)) == pytest.approx(order, abs=0.35)


def test_guidance_goes_beyond_the_prompt_away_from_the_negative_one():
    config = DiffusionConfig(latent=4, text=8, widths=(8, 32), blocks=(1, 1), time=16)
    model = initialise_(Denoiser(config), 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    noisy, text = torch.randn(2, 4, 4, 4), torch.randn(2, 5, 8)
    level = torch.full((2,), 0.5)
    for empty in (torch.randn(2, 5, 8), torch.randn(2, 9, 8)):  # in one pass, and of another length
        with_text, without = model(noisy, level, text), model(noisy, level, empty)
        torch.testing.assert_close(
            guided(model, text, empty, 3.0)(noisy, 0.5), without + 3 * (with_text - without), atol=1e-5, rtol=1e-5
        )
        assert torch.equal(guided(model, text, empty, 1.0)(noisy, 0.5), with_text)


@pytest.mark.parametrize("levels", [[1.0], [], [0.5, 0.7, 0.0], [1.2, 0.5, 0.0], [1.0, 0.5, 0.5]])
def test_levels_that_do_not_fall_are_refused(levels):
    with pytest.raises(DiffusionError, match="fall"):
        euler(lambda x, level: x, torch.zeros(1, 1, 1, 1), levels)


def test_a_tiny_model_learns_which_of_two_texts_means_which_colour():
    """Latents are +1 for one text and -1 for the other: after training the sampler lands on the right side."""
    config = DiffusionConfig(latent=4, text=8, widths=(8, 32), blocks=(1, 1), time=16)
    model = initialise_(Denoiser(config), 0)
    texts = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))

    def step_loss(step: int, generator: torch.Generator) -> Tensor:
        which = torch.randint(2, (16,), generator=generator)
        latent = (which * 2.0 - 1)[:, None, None, None].expand(-1, 4, 4, 4)
        noise = torch.randn(latent.shape, generator=generator)
        level = draw_levels(16, generator, 1.0)
        return flow_loss(model(mixed(latent, noise, level), level, texts[which]), latent, noise)

    losses = fit(step_loss, dict(model.named_parameters()), TrainingPlan(steps=150, seed=1, lr=1e-2, warm_up=10))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    with torch.no_grad():
        noise = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(4))
        found = euler(guided(model, texts, texts, 1.0), noise, schedule(10, 1.0).tolist())
    assert found[0].mean() < -0.7 and found[1].mean() > 0.7
