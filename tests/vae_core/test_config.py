"""Sizes, and the way between raw latents and the diffusion models' own."""

import pytest
import torch

from clip_vae_lora.vae_core.config import FAMILIES, VAEConfig, to_raw

from ..support.model_space import to_model_space


@pytest.mark.parametrize("family", FAMILIES)
def test_to_raw_undoes_to_model_space(family):
    latent = torch.randn(2, FAMILIES[family].latent, 3, 3)
    torch.testing.assert_close(to_raw(to_model_space(latent, family), family), latent)


def test_the_shift_is_added_after_the_scale_is_taken_off():
    in_model_space = torch.full((1, 16, 1, 1), 1.5305)
    torch.testing.assert_close(to_raw(in_model_space, "sd3"), torch.full((1, 16, 1, 1), 1.0609))


def test_playground_scales_each_channel_by_its_own_spread():
    mean_and_one_spread = torch.tensor([-1.6574 + 8.4927, 1.886, -1.383, 2.5155 + 5.2299]).view(1, 4, 1, 1)
    in_model_space = torch.tensor([0.5, 0.0, 0.0, 0.5]).view(1, 4, 1, 1)
    torch.testing.assert_close(to_raw(in_model_space, "playground"), mean_and_one_spread)


def test_the_callers_latent_is_not_changed():
    latent = torch.ones(1, 4, 2, 2)
    to_raw(latent, "sd1")
    assert torch.equal(latent, torch.ones(1, 4, 2, 2))


def test_a_latent_of_another_family_and_an_unknown_family_are_refused():
    with pytest.raises(ValueError, match="16 channels"):
        to_raw(torch.zeros(1, 4, 2, 2), "flux")
    with pytest.raises(ValueError, match="no VAE family is called 'sd9'; there are sd1"):
        to_raw(torch.zeros(1, 4, 2, 2), "sd9")


def test_the_sd1_layout_has_its_published_widths_and_factor():
    config = VAEConfig(128, (1, 2, 4, 4), 2, 4, True)
    assert config.widths == config.decoder_widths == (128, 256, 512, 512)
    assert config.factor == 8


@pytest.mark.parametrize("config", [(48, (1,), 1, 4), (32, (), 1, 4), (32, (1,), 0, 4), (32, (1,), 1, 0)])
def test_impossible_sizes_are_refused(config):
    with pytest.raises(ValueError, match="multiple of 32|at least one"):
        VAEConfig(*config, True)
