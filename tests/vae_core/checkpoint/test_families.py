"""FLUX.2's autoencoder against diffusers, taesana by index as it is published, both by tiles too; the prior."""

import pytest
import torch
from torch import nn

from clip_vae_lora.vae_core.checkpoint.find import LayoutError, family_in_name, find_vae, join_pair
from clip_vae_lora.vae_core.config import FAMILIES, VAEConfig, fold, prior_sample, unfold
from clip_vae_lora.vae_core.networks.tiny import TinyAutoencoder, TinyConfig
from clip_vae_lora.vae_core.tiling import tiled

from ...support.model_space import to_model_space

ROUNDING = 1e-4  # of latents and pixels of a few units: fp32 sums in another order


def load(tensors):
    source = find_vae({name: tuple(t.shape) for name, t in tensors.items()})
    network = source.build()
    network.load_state_dict(source.translate(tensors), strict=True)
    return source, network.eval()


@pytest.fixture(scope="module")
def flux2():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = diffusers.AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(64, 64, 128),
        decoder_block_out_channels=(32, 32, 64),
        layers_per_block=1,
        latent_channels=8,
    ).eval()
    model.bn.running_mean.normal_()
    model.bn.running_var.uniform_(0.5, 2)
    return model


def as_flux2_pipeline(model, mean):
    """The pipeline's own steps behind the encoder: 2 x 2 cells into the channels, then the batch norm."""
    folded = fold(mean, 2)
    return (folded - model.bn.running_mean.view(1, -1, 1, 1)) / (model.bn.running_var.view(1, -1, 1, 1) + 1e-4).sqrt()


@torch.no_grad()
def test_flux2_latents_and_pixels_are_those_of_diffusers_pipeline(flux2):
    source, network = load(flux2.state_dict())
    assert source.config == VAEConfig(64, (1, 1, 2), 1, 32, True, 32, patch=2) and source.config.factor == 8
    pixels = torch.rand(2, 3, 32, 48) * 2 - 1
    wanted = flux2.encode(pixels).latent_dist
    latent = as_flux2_pipeline(flux2, wanted.mean)
    posterior = network.encoding(pixels)
    assert latent.shape == (2, 32, 4, 6)
    torch.testing.assert_close(posterior.mean, latent, rtol=0, atol=ROUNDING)
    spread = as_flux2_pipeline(flux2, wanted.mean + wanted.std) - latent  # a sample is carried over like the mean
    torch.testing.assert_close(posterior.std, spread, rtol=1e-3, atol=ROUNDING)
    decoded = flux2.decode(wanted.mean).sample
    torch.testing.assert_close(network.decode(latent), decoded, rtol=0, atol=ROUNDING)


@torch.no_grad()
def test_flux2_by_tiles_is_flux2_at_once(flux2):
    network = load(flux2.state_dict())[1]
    pixels = torch.rand(1, 3, 56, 40) * 2 - 1
    posterior = network.encoding(pixels)
    got = tiled.encode(network, pixels, (3, 2))
    torch.testing.assert_close(got.mean, posterior.mean, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(got.logvar, posterior.logvar, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(tiled.decode(network, got.mean, (2, 3)), network.decode(got.mean), rtol=0, atol=ROUNDING)


def test_flux2s_published_file_has_its_quant_convolutions_inside_the_halves(flux2):
    network = load(flux2.state_dict())[1]
    inside = {"quant_conv.": "encoder.quant_conv.", "post_quant_conv.": "decoder.post_quant_conv."}
    published = {
        next((new + name.removeprefix(old) for old, new in inside.items() if name.startswith(old)), name): t
        for name, t in network.state_dict().items()
    }
    assert "encoder.quant_conv.weight" in published and "quant_conv.weight" not in published
    del published["bn.num_batches_tracked"]
    source, again = load(published)
    assert not source.ignored
    assert all(torch.equal(t, network.state_dict()[name]) for name, t in again.state_dict().items())


def test_half_a_flux2_statistic_is_refused(flux2):
    tensors = {name: t for name, t in flux2.state_dict().items() if name != "bn.running_var"}
    with pytest.raises(LayoutError, match="lacks 1 of its .* tensors, 'bn.running_var'"):
        load(tensors)


def described_taesana():
    """As madebyollin/taesd publishes it: encoder and decoder by index, written without our code."""

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            c = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
            self.conv = nn.Sequential(c[0], nn.ReLU(), c[1], nn.ReLU(), c[2])

        def forward(self, x):
            return torch.relu(self.conv(x) + x)

    class SoftClamp(nn.Module):
        def forward(self, x):
            return torch.tanh(x / 3) * 3

    def conv(inner, outer, **options):
        return nn.Conv2d(inner, outer, 3, padding=1, **options)

    encoder = [conv(3, 32, stride=2), nn.ReLU(), conv(32, 64, stride=2), nn.ReLU(), Block(64)]
    for _ in range(3):
        encoder += [conv(64, 64, stride=2, bias=False), Block(64), Block(64), Block(64)]
    decoder = [SoftClamp(), conv(32, 256), nn.ReLU()]
    for inner, outer in ((256, 128), (128, 64), (64, 64), (64, 64), (64, 64)):
        decoder += [
            Block(inner),
            Block(inner),
            Block(inner),
            nn.Upsample(scale_factor=2),
            conv(inner, outer, bias=False),
        ]
    return nn.Sequential(*encoder, conv(64, 32)).eval(), nn.Sequential(*decoder, Block(64), conv(64, 3)).eval()


@torch.no_grad()
def test_taesana_is_the_published_description_in_model_space():
    torch.manual_seed(0)
    encoder, decoder = described_taesana()
    source, network = load(join_pair(encoder.state_dict(), decoder.state_dict()))
    scale = FAMILIES["sana"].scale[0]
    assert source.config == TinyConfig(32, deep=True, scale=scale) and source.config.factor == 32
    pixels = torch.rand(2, 3, 64, 96) * 2 - 1
    raw = network.encoding(pixels)
    torch.testing.assert_close(raw, encoder(pixels / 2 + 0.5) / scale, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(network.decode(raw * 9), decoder(raw * 9 * scale) * 2 - 1, rtol=0, atol=ROUNDING)


def test_taesanas_encoder_alone_is_found_and_its_name_known():
    encoder = described_taesana()[0].state_dict()
    source = find_vae({name: tuple(t.shape) for name, t in encoder.items()}, family_in_name("taesana_encoder.pth"))
    assert (source.has_encoder, source.has_decoder) == (True, False)


TINY = [TinyConfig(4, scale=0.18215), TinyConfig(128, pooled=True, patch=2), TinyConfig(32, deep=True, scale=0.4)]


@pytest.mark.parametrize("config", TINY, ids=["taesd", "taef2", "taesana"])
@pytest.mark.parametrize("tile", [(1, 1), (3, 2), (16, 16)])
@torch.no_grad()
def test_a_tiny_autoencoder_by_tiles_is_the_same_at_once(config, tile):
    torch.manual_seed(0)
    network = TinyAutoencoder(config).eval()
    cells = (5, 7) if config.factor == 8 else (3, 4)
    pixels = torch.rand(2, 3, *(side * config.factor for side in cells)) * 2 - 1
    steps = []
    latent = network.encoding(pixels)
    got = tiled.encode(network, pixels, tile, on_step=lambda *step: steps.append(step))
    torch.testing.assert_close(got, latent, rtol=0, atol=ROUNDING)
    assert steps[-1][0] == steps[-1][1] == len(steps)
    torch.testing.assert_close(tiled.decode(network, latent, tile), network.decode(latent), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_prior_is_standard_normal_in_model_space(name):
    noise = torch.randn(1, FAMILIES[name].latent, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_model_space(prior_sample(noise, name), name), noise, rtol=1e-5, atol=1e-5)


def test_unfolding_undoes_folding():
    x = torch.randn(2, 3, 4, 6)
    assert torch.equal(unfold(fold(x, 2), 2), x)
