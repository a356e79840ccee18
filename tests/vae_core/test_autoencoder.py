"""AutoencoderKL against diffusers' on tiny and on full-size random networks, and the posterior's own laws."""

import math

import pytest
import torch

from clip_vae_lora.vae_core.checkpoint.find import find_vae
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL
from clip_vae_lora.vae_core.posterior import Posterior

diffusers = pytest.importorskip("diffusers")

SAME_ARITHMETIC = 1e-5  # of the largest output: fp32 sums in another order (each side is that far from float64)
SAME_FORMULA = 1e-12  # of the largest output, in float64


def assert_equal_up_to(tolerance, got, wanted):
    """No element further off than `tolerance` times the largest one wanted, or 1 where that is smaller."""
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * max(1.0, wanted.abs().max().item()))


def reference(widths, blocks, latent, quant, seed=0):
    """A diffusers AutoencoderKL in which every number is random, so that no tensor can hide behind ones or zeros."""
    torch.manual_seed(seed)
    levels = len(widths)
    model = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=widths,
        layers_per_block=blocks,
        latent_channels=latent,
        use_quant_conv=quant,
        use_post_quant_conv=quant,
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def ours(model):
    """Our network with the weights of a diffusers model, brought over by names and shapes."""
    tensors = model.state_dict()
    source = find_vae({name: t.shape for name, t in tensors.items()})
    network = source.build()
    network.load_state_dict(source.translate(tensors), strict=True)
    return network.eval()


CASES = {
    "one level": ((32,), 1, 4, True),
    "two levels, no quant": ((32, 64), 1, 16, False),
    "three levels": ((32, 64, 64), 2, 4, True),
    "four levels, no quant": ((32, 32, 64, 96), 2, 16, False),
    "five levels, three latent channels": ((32, 32, 32, 32, 64), 1, 3, True),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys(), scope="module")
def pair(request):
    model = reference(*request.param)
    return model, ours(model), request.param


@torch.no_grad()
def test_encode_gives_diffusers_mean_logvar_sample_and_kl(pair):
    model, network, _ = pair
    pixels = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    wanted, got = model.encode(pixels).latent_dist, network.encoding(pixels)
    for name in ("mean", "logvar", "std"):
        assert_equal_up_to(SAME_ARITHMETIC, getattr(got, name), getattr(wanted, name))
    assert_equal_up_to(SAME_ARITHMETIC, got.mode, wanted.mode())
    assert_equal_up_to(
        SAME_ARITHMETIC, got.sample(torch.Generator().manual_seed(5)), wanted.sample(torch.Generator().manual_seed(5))
    )
    torch.testing.assert_close(got.kl(), wanted.kl(), rtol=1e-5, atol=0)


@torch.no_grad()
def test_decode_gives_diffusers_pixels(pair):
    model, network, (_, _, latent, _) = pair
    z = torch.randn(2, latent, 4, 3, generator=torch.Generator().manual_seed(2))
    assert_equal_up_to(SAME_ARITHMETIC, network.decode(z), model.decode(z).sample)


@torch.no_grad()
def test_in_double_precision_both_are_diffusers_formulas_to_the_last_digits():
    model = reference((32, 32, 64, 96), 2, 4, True).double()
    network = ours(model).double()
    pixels = torch.rand(1, 3, 32, 32, dtype=torch.float64) * 2 - 1
    wanted, got = model.encode(pixels).latent_dist, network.encoding(pixels)
    assert_equal_up_to(SAME_FORMULA, got.mean, wanted.mean)
    assert_equal_up_to(SAME_FORMULA, network.decode(wanted.mean), model.decode(wanted.mean).sample)


@torch.no_grad()
def test_the_sd1_layout_a_quarter_as_wide_gives_diffusers_latent_and_pixels():
    model = reference((32, 64, 128, 128), 2, 4, True)
    network = ours(model)
    pixels = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
    wanted, got = model.encode(pixels).latent_dist, network.encoding(pixels)
    torch.testing.assert_close(got.mean, wanted.mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(got.logvar, wanted.logvar, rtol=0, atol=1e-4)
    torch.testing.assert_close(network.decode(wanted.mean), model.decode(wanted.mean).sample, rtol=0, atol=1e-4)


@pytest.mark.parametrize("multipliers, factor", [((1,), 1), ((1, 2, 2), 4), ((1, 2, 2, 2), 8)])
@torch.no_grad()
def test_the_factor_follows_from_the_levels(multipliers, factor):
    network = AutoencoderKL(VAEConfig(32, multipliers, 1, 4, False))
    latent = network.encode(torch.zeros(1, 3, 16, 24))
    assert network.config.factor == factor
    assert latent.shape == (1, 4, 16 // factor, 24 // factor)
    assert network.decode(latent).shape == (1, 3, 16, 24)


@torch.no_grad()
def test_the_stages_one_after_another_are_the_whole():
    network = AutoencoderKL(VAEConfig(32, (1, 2), 1, 4, True))
    pixels = torch.randn(1, 3, 16, 16)
    encoder, decoder = network.encoder, network.decoder
    assert torch.equal(encoder(pixels), encoder.to_moments(encoder.mid(encoder.to_latent_size(pixels))))
    z = torch.randn(1, 4, 4, 4)
    assert torch.equal(decoder(z), decoder.to_pixels(decoder.to_picture_size(decoder.at_latent_size(z))))


def test_every_parameter_gets_a_gradient_from_a_round_trip():
    network = AutoencoderKL(VAEConfig(32, (1, 2), 1, 4, True))
    posterior = network.posterior(torch.rand(1, 3, 16, 16))
    loss = network.decode(posterior.sample(torch.Generator().manual_seed(0))).square().mean() + posterior.kl().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_the_layers_come_from_the_given_operations_and_dtype():
    made = []

    class Operations:
        class Conv2d(torch.nn.Conv2d):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                made.append(self)

        class GroupNorm(torch.nn.GroupNorm):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                made.append(self)

    network = AutoencoderKL(VAEConfig(32, (1, 2), 1, 4, True), Operations, "meta", torch.bfloat16)
    with_weights = [m for m in network.modules() if list(m.parameters(recurse=False))]
    assert set(with_weights) == set(made)
    assert {(p.dtype, p.device.type) for p in network.parameters()} == {(torch.bfloat16, "meta")}


@torch.no_grad()
def test_decode_gives_a_new_tensor_and_leaves_the_latent_alone():
    network = AutoencoderKL(VAEConfig(32, (1,), 1, 3, False))
    latent = torch.randn(1, 3, 8, 8)
    before = latent.clone()
    network.decode(latent).zero_()
    assert torch.equal(latent, before)


def test_logvar_is_clamped_and_std_follows_it():
    posterior = Posterior.from_moments(torch.tensor([0.0, -100.0, 0.0, 100.0]).view(2, 2, 1, 1))
    assert posterior.logvar.flatten().tolist() == [-30.0, 20.0]
    assert posterior.std.flatten().tolist() == pytest.approx([math.exp(-15), math.exp(10)])


def test_kl_is_the_divergence_that_torch_distributions_computes():
    posterior = Posterior.from_moments(torch.randn(3, 8, 2, 2))
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(posterior.mean, posterior.std), normal(0.0, 1.0))
    torch.testing.assert_close(posterior.kl(), wanted.sum(dim=(1, 2, 3)))


def test_kl_of_half_precision_does_not_overflow():
    posterior = Posterior(
        torch.full((1, 4, 64, 64), 10.0, dtype=torch.float16), torch.zeros(1, 4, 64, 64, dtype=torch.float16)
    )
    assert posterior.kl().item() == 0.5 * 100 * 4 * 64 * 64


def test_a_sample_has_the_mean_and_the_spread_of_its_posterior():
    posterior = Posterior(torch.full((1, 1, 400, 400), 3.0), torch.full((1, 1, 400, 400), math.log(4.0)))
    sample = posterior.sample(torch.Generator().manual_seed(0))
    assert sample.mean().item() == pytest.approx(3.0, abs=0.03)  # six standard errors of 160,000 draws
    assert sample.std().item() == pytest.approx(2.0, abs=0.03)


@pytest.mark.parametrize(
    "pixels, sentence",
    [
        (torch.zeros(1, 4, 8, 8), r"wants pixels \[B, 3, H, W\], not \[1, 4, 8, 8\]"),
        (torch.zeros(3, 8, 8), r"wants pixels"),
        (torch.zeros(1, 3, 9, 8), "multiples of 2 px, not 9 x 8 px: crop or pad"),
        (torch.zeros(1, 3, 0, 8), "multiples of 2 px"),
    ],
)
def test_pixels_that_do_not_fit_are_refused_in_a_sentence(pixels, sentence):
    with pytest.raises(ValueError, match=sentence):
        AutoencoderKL(VAEConfig(32, (1, 1), 1, 4, True)).encode(pixels)


@pytest.mark.parametrize(
    "latent, sentence",
    [
        (torch.zeros(1, 4, 8, 8), "this latent has 4 channels, this VAE wants 16"),
        (torch.zeros(16, 8, 8), r"wants a latent \[B, 16, h, w\]"),
        (torch.zeros(1, 16, 0, 8), "nothing to decode"),
    ],
)
def test_latents_that_do_not_fit_are_refused_in_a_sentence(latent, sentence):
    with pytest.raises(ValueError, match=sentence):
        AutoencoderKL(VAEConfig(32, (1, 1), 1, 16, True)).decode(latent)


def test_half_a_vae_refuses_the_direction_it_lacks():
    config = VAEConfig(32, (1, 1), 1, 4, True)
    with pytest.raises(ValueError, match="holds only a decoder"):
        AutoencoderKL(config, encoder=False).encode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="holds only an encoder"):
        AutoencoderKL(config, decoder=False).decode(torch.zeros(1, 4, 8, 8))
