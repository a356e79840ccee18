"""The error that a CLIP sees: windows in the same places, features of the middle, a weight that balances gradients."""

from dataclasses import replace

import pytest
import torch
from torch import Generator

from clip_vae_lora.clip_core.config import CLIPConfig, ResNetConfig, TextConfig, VisionConfig
from clip_vae_lora.clip_core.networks.clip import CLIP, initialise_
from clip_vae_lora.training.vae.losses import Weights
from clip_vae_lora.training.vae.perceptual import Tower, balanced, perceptual_error
from clip_vae_lora.training.vae.run import train_vae

from ...support.vaes import learning
from .test_run import PLAN

CPU = torch.device("cpu")
CONFIG = CLIPConfig(
    TextConfig(vocab=64, context=8, width=32, layers=1, heads=2, mlp=64, embed=16),
    VisionConfig(width=32, layers=4, heads=2, mlp=64, patch_px=8, image_px=32, embed=16),
)


def _clip(seed: int = 0) -> CLIP:
    return initialise_(CLIP(CONFIG), seed)


def _pixels(seed: int = 0, side: int = 48) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=Generator().manual_seed(seed)) * 2 - 1


def test_the_features_are_those_of_the_middle_block_as_directions():
    clip = _clip()
    tower = Tower(clip, CPU)
    pictures = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        mean, std = (torch.tensor(one).view(3, 1, 1) for one in (CONFIG.mean, CONFIG.std))
        hidden = clip.encode_image((pictures - mean) / std, 2).hidden
        found = tower.features(pictures)
    assert tower.middle == 2 and torch.allclose(found, torch.nn.functional.normalize(hidden, dim=-1), atol=1e-5)
    assert len(tower.network.encoder.layers) == 2 and len(clip.vision_model.encoder.layers) == 4
    assert not any(parameter.requires_grad for parameter in tower.network.parameters())


def test_equal_pictures_have_no_error_and_others_one_with_a_gradient():
    tower, pixels = Tower(_clip(), CPU), _pixels()
    made = pixels.clone().requires_grad_(True)
    # 1e-10: the features of equal windows in one batch may differ in the last bits
    assert float(perceptual_error(tower, pixels, made, Generator().manual_seed(0)).detach()) < 1e-10
    other = _pixels(1).requires_grad_(True)
    error = perceptual_error(tower, pixels, other, Generator().manual_seed(0))
    error.backward()
    assert float(error.detach()) > 1e-3 and bool(other.grad.isfinite().all()) and float(other.grad.abs().sum()) > 0


def test_windows_lie_in_the_same_places_in_both_and_are_drawn():
    tower, pixels = Tower(_clip(), CPU), _pixels()
    errors = [float(perceptual_error(tower, pixels, _pixels(1), Generator().manual_seed(seed))) for seed in (0, 0, 1)]
    assert errors[0] == errors[1] != errors[2]


@pytest.mark.parametrize(("channels", "side"), [(1, 48), (4, 48), (3, 20), (3, 12)])
def test_grey_pictures_those_with_alpha_and_small_ones_are_seen_too(channels, side):
    tower = Tower(_clip(), CPU)
    first, second = (torch.rand(1, channels, side, side + 8) for _ in range(2))
    error = perceptual_error(tower, first, second, Generator().manual_seed(0))
    assert error.ndim == 0 and float(error) > 0


def test_the_weight_gives_both_gradients_the_same_length():
    at = torch.randn(8, requires_grad=True)
    small, large = (at * torch.arange(8.0)).sum() * 1e-3, (at**2).sum() * 5
    factor = balanced(small, large, at)
    first = torch.autograd.grad(factor * small, at, retain_graph=True)[0]
    second = torch.autograd.grad(large, at)[0]
    assert float(first.norm()) == pytest.approx(float(second.norm()), rel=1e-5) and not factor.requires_grad


def test_the_weight_has_a_bound_where_the_gradient_is_nearly_none():
    at = torch.ones(4, requires_grad=True)
    assert float(balanced(at.sum() * 1e-20, at.sum(), at)) == 1e4


def test_a_resnet_is_a_tower_too():
    config = CLIPConfig(CONFIG.text, ResNetConfig(width=8, blocks=(1, 1, 1, 1), heads=2, image_px=32, embed=16))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = Tower(CLIP(config), CPU)
    found = perceptual_error(tower, _pixels(), _pixels(1), Generator().manual_seed(0))
    assert tower.middle == 2 and float(found) > 0


@pytest.mark.parametrize("rank", [0, 3])
def test_a_vae_learns_by_it_and_only_what_was_chosen_changes(rank):
    plan = replace(PLAN, weights=Weights(perceptual=1.0), rank=rank, crop_px=32)
    made = train_vae(learning.trainee(), learning.pictures(), plan, tower=Tower(_clip(), CPU))
    alone = train_vae(learning.trainee(), learning.pictures(), replace(plan, weights=Weights()))
    assert made.stored.same_encoder and all("perceptual" in errors for errors in made.errors)
    assert made.trained == alone.trained and made.losses != alone.losses
    again = train_vae(learning.trainee(), learning.pictures(), plan, tower=Tower(_clip(), CPU))
    assert again.losses == made.losses
