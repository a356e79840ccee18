"""The losses against independent few-line references in float64."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from clip_vae_lora.training.losses import (
    LARGEST_SCALE,
    choice_loss,
    contrastive_loss,
    divergence_of_channels,
    fact_loss,
    vae_loss,
)


def _reference(images: np.ndarray, texts: np.ndarray, scale: float, left_out: np.ndarray) -> float:
    """Figure 3 of arXiv 2103.00020, pair by pair."""
    images = images / np.linalg.norm(images, axis=1, keepdims=True)
    texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    total = 0.0
    for i in range(len(images)):
        among_texts = [np.exp(scale * images[i] @ texts[j]) for j in range(len(texts)) if not left_out[i, j]]
        among_images = [np.exp(scale * images[j] @ texts[i]) for j in range(len(images)) if not left_out[j, i]]
        own = scale * images[i] @ texts[i]
        total += 2 * own - np.log(np.sum(among_texts)) - np.log(np.sum(among_images))
    return -total / (2 * len(images))


@pytest.mark.parametrize("with_fits", [False, True])
def test_the_contrastive_loss_equals_the_reference(with_fits: bool):
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(7, 5, generator=generator), torch.randn(7, 5, generator=generator)
    fits = (torch.rand(7, 7, generator=generator) < 0.3) | torch.eye(7, dtype=torch.bool) if with_fits else None
    left_out = np.zeros((7, 7), bool) if fits is None else fits.numpy() & ~np.eye(7, dtype=bool)
    expected = _reference(images.double().numpy(), texts.double().numpy(), math.exp(1.7), left_out)
    got = contrastive_loss(images, texts, torch.tensor(1.7), fits)
    assert float(got) == pytest.approx(expected, rel=1e-5)  # float32


def test_the_scale_is_used_as_at_most_a_hundred():
    generator = torch.Generator().manual_seed(1)
    images, texts = torch.randn(4, 8, generator=generator), torch.randn(4, 8, generator=generator)
    at_most = contrastive_loss(images, texts, torch.tensor(LARGEST_SCALE))
    assert torch.equal(contrastive_loss(images, texts, torch.tensor(9.0)), at_most)


def test_a_perfect_match_costs_nothing_and_equal_features_cost_the_logarithm_of_the_batch():
    eye = torch.eye(6)
    assert float(contrastive_loss(eye, eye, torch.tensor(math.log(100.0)))) < 1e-6
    same = torch.ones(6, 3)
    assert float(contrastive_loss(same, same, torch.tensor(0.0))) == pytest.approx(math.log(6), rel=1e-6)


def test_another_caption_that_is_true_of_a_picture_is_no_mistake():
    images = texts = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    fits = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    scale = torch.tensor(math.log(100.0))
    assert float(contrastive_loss(images, texts, scale, fits)) < 1e-6
    assert float(contrastive_loss(images, texts, scale)) > 0.4  # ln 2 for two of the three pairs


def test_unequal_numbers_of_pictures_and_texts_are_refused():
    with pytest.raises(ValueError, match="as many texts as pictures"):
        contrastive_loss(torch.ones(2, 4), torch.ones(3, 4), torch.tensor(0.0))


def test_the_choice_loss_equals_the_reference():
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(3, 6, 4, generator=generator)
    images, right, wrong = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in rows.double().numpy())
    scale = math.exp(1.3)
    costs = [np.log(1 + np.exp(scale * (image @ bad - image @ good))) for image, good, bad in zip(images, right, wrong)]
    assert float(choice_loss(*rows, torch.tensor(1.3))) == pytest.approx(np.mean(costs), rel=1e-5)


def test_the_fact_loss_equals_the_reference():
    generator = torch.Generator().manual_seed(3)
    logits, sizes = torch.randn(5, 7, generator=generator), (3, 4)
    facts = torch.stack([torch.randint(size, (5,), generator=generator) for size in sizes], dim=1)
    named = torch.tensor([[1, 0], [1, 1], [0, 1], [0, 0], [1, 0]], dtype=torch.bool)
    costs = []
    for row, fact, says in zip(logits.double().numpy(), facts.tolist(), named.tolist()):
        for part, value, said in ((row[:3], fact[0], says[0]), (row[3:], fact[1], says[1])):
            if said:
                costs.append(np.log(np.exp(part).sum()) - part[value])
    assert float(fact_loss(logits, facts, sizes, named)) == pytest.approx(np.mean(costs), rel=1e-5)


def test_facts_of_other_sizes_than_the_logits_are_refused():
    with pytest.raises(ValueError, match="expected 7 logits and 2 facts"):
        fact_loss(torch.zeros(1, 6), torch.zeros(1, 2, dtype=torch.long), (3, 4), torch.ones(1, 2, dtype=torch.bool))


def test_the_vae_loss_equals_the_reference():
    generator = torch.Generator().manual_seed(2)
    pixels, copy = torch.randn(2, 3, 5, 6, generator=generator), torch.randn(2, 3, 5, 6, generator=generator)
    kl = torch.tensor([0.4, 3.0])  # the first channel is below what is free
    got = vae_loss(pixels, copy, kl, kl_weight=0.25, edge_weight=0.5, free_nats=1.0)
    error = (copy.double() - pixels.double()).numpy()
    absolute = np.abs(error).mean()
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    edges = (np.abs(across).mean() + np.abs(down).mean()) / 2
    assert float(got.absolute) == pytest.approx(absolute, rel=1e-6)
    assert float(got.edges) == pytest.approx(edges, rel=1e-6)
    assert float(got.kl) == pytest.approx(2.0)
    assert float(got.total) == pytest.approx(absolute + 0.5 * edges + 0.25 * 2.0, rel=1e-6)


def test_a_reconstruction_of_another_size_is_refused():
    with pytest.raises(ValueError, match="reconstruction"):
        vae_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 8), torch.zeros(4), kl_weight=1.0)


def test_the_divergence_of_a_channel_is_the_mean_over_its_values():
    generator = torch.Generator().manual_seed(3)
    mean, logvar = torch.randn(2, 3, 4, 5, generator=generator), torch.randn(2, 3, 4, 5, generator=generator)
    wanted = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).mean(dim=(0, 2, 3))
    torch.testing.assert_close(divergence_of_channels(mean, logvar), wanted, rtol=1e-5, atol=1e-6)
    assert divergence_of_channels(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)).tolist() == [0, 0]


def test_a_channel_below_its_free_nats_is_not_pushed():
    kl = torch.tensor([0.4, 3.0], requires_grad=True)
    same = torch.zeros(1, 3, 4, 4)
    vae_loss(same, same, kl, kl_weight=1.0, free_nats=1.0).total.backward()
    assert kl.grad is not None and kl.grad.tolist() == [0.0, 0.5]
