"""The TAESD family against diffusers on random weights, and TAEF2's real weights against a published description."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from clip_vae_lora.vae_core.checkpoint.find import LayoutError, family_in_name, find_vae, join_pair
from clip_vae_lora.vae_core.config import fold, unfold
from clip_vae_lora.vae_core.networks.tiny import TinyAutoencoder, TinyConfig
from clip_vae_lora.vae_core.tiling import tiled

PUBLISHED = {
    "taesd": (4, 0.18215, 0.0),
    "taesdxl": (4, 0.13025, 0.0),
    "taesd3": (16, 1.5305, 0.0609),
    "taef1": (16, 0.3611, 0.1159),
}  # name: channels, scale, shift


def shapes_of(tensors):
    return {name: tuple(t.shape) for name, t in tensors.items()}


def halves(config):
    """The two files of a TAESD, as published, with random numbers."""
    torch.manual_seed(0)
    tensors = TinyAutoencoder(config).state_dict()
    return tuple(
        {name.removeprefix(stem): t for name, t in tensors.items() if name.startswith(stem)}
        for stem in ("taesd_encoder.", "taesd_decoder.")
    )


def load(tensors, family=None):
    source = find_vae(shapes_of(tensors), family)
    network = source.build()
    network.load_state_dict(source.translate(tensors), strict=True)
    return source, network.eval()


@pytest.mark.parametrize("name", PUBLISHED)
@torch.no_grad()
def test_raw_latents_and_pixels_are_those_of_diffusers_and_the_familys_scale(name):
    diffusers = pytest.importorskip("diffusers")
    channels, scale, shift = PUBLISHED[name]
    torch.manual_seed(0)
    model = diffusers.AutoencoderTiny(latent_channels=channels).eval()
    source, network = load(model.state_dict(), family_in_name(f"{name}_decoder.pth"))
    assert (source.kind, source.layout) == ("tiny", "diffusers")
    assert (source.config.latent, source.config.factor) == (channels, 8)
    pixels = torch.rand(2, 3, 32, 48) * 2 - 1
    in_model_space = model.encode(pixels).latents
    raw = network.encode(pixels)
    torch.testing.assert_close(raw, in_model_space / scale + shift, rtol=1e-5, atol=1e-5)
    latent = torch.randn(2, channels, 4, 6) * 4  # far enough out for the clamp to matter
    torch.testing.assert_close(network.decode(latent / scale + shift), model.decode(latent).sample, rtol=0, atol=1e-5)


def test_every_layout_of_one_network_leads_to_the_same_tensors():
    encoder, decoder = halves(TinyConfig(4))
    in_diffusers = {f"encoder.layers.{name}": t for name, t in encoder.items()}
    in_diffusers |= {
        f"decoder.layers.{int(n) - 1}.{rest}": t
        for n, rest, t in ((*name.split(".", 1), t) for name, t in decoder.items())
    }
    pair, comfyui = join_pair(encoder, decoder), {}
    comfyui |= {f"taesd_encoder.{name}": t for name, t in encoder.items()}
    comfyui |= {f"taesd_decoder.{name}": t for name, t in decoder.items()}
    comfyui |= {"vae_scale": torch.tensor(0.18215), "vae_shift": torch.tensor(0.0)}
    found = {}
    for layout, tensors in (("pair", pair), ("diffusers", in_diffusers), ("comfyui", comfyui)):
        source = find_vae(shapes_of(tensors), None if layout == "comfyui" else "sd1")
        assert source.layout == layout and not source.ignored
        found[layout] = source.translate(tensors)
    for other in ("diffusers", "comfyui"):
        assert found[other].keys() == found["pair"].keys()
        assert all(torch.equal(t, found["pair"][name]) for name, t in found[other].items())


@pytest.mark.parametrize(
    "config",
    [TinyConfig(4, scale=0.18215), TinyConfig(16, scale=0.3611, shift=0.1159), TinyConfig(128, pooled=True, patch=2)],
)
def test_a_network_built_named_detected_and_inferred_has_its_first_config(config):
    family = {4: "sd1", 16: "flux", 128: None}[config.latent]
    assert find_vae(shapes_of(join_pair(*halves(config))), family).config == config


def test_one_of_the_two_files_is_accepted_alone_and_refuses_the_other_direction():
    encoder, decoder = halves(TinyConfig(4))
    _, only_encoder = load(encoder, "sd1")
    _, only_decoder = load(decoder, "sd1")
    with pytest.raises(ValueError, match="load its decoder file too"):
        only_encoder.decode(torch.zeros(1, 4, 2, 2))
    with pytest.raises(ValueError, match="load its encoder file too"):
        only_decoder.encode(torch.zeros(1, 3, 16, 16))
    assert only_decoder.decode(only_encoder.encode(torch.zeros(1, 3, 16, 16))).shape == (1, 3, 16, 16)


def test_a_tiny_vae_of_unsaid_family_is_refused_with_the_choices():
    with pytest.raises(LayoutError, match="4 latent channels.*name the family, sd1 or sdxl"):
        find_vae(shapes_of(halves(TinyConfig(4))[1]))
    with pytest.raises(LayoutError, match="16 latent channels, which the family 'sdxl' does not have"):
        find_vae(shapes_of(halves(TinyConfig(16))[0]), "sdxl")


def test_channels_that_no_published_model_has_are_taken_as_raw_and_said_so():
    source = find_vae(shapes_of(halves(TinyConfig(8))[0]))
    assert source.config == TinyConfig(8) and "no published model has 8" in source.notes[0]


@pytest.mark.parametrize(
    "name, family",
    [
        ("taesd_encoder.pth", "sd1"),
        ("TAESDXL_decoder.safetensors", "sdxl"),
        ("taef2_decoder.pth", None),
        ("my_taesd.pth", None),
    ],
)
def test_the_family_is_read_from_published_file_names_only(name, family):
    assert family_in_name(name) == family


def test_an_incomplete_pair_is_refused():
    encoder, decoder = halves(TinyConfig(4))
    del decoder["8.conv.2.bias"]
    with pytest.raises(LayoutError, match="lacks 1 of its .* tensors, 'taesd_decoder.8.conv.2.bias'"):
        find_vae(shapes_of(join_pair(encoder, decoder)), "sd1")


def test_fold_puts_the_cells_of_each_channel_in_reading_order_and_unfold_takes_them_out():
    x = torch.arange(16).view(1, 1, 4, 4)
    assert fold(x, 2)[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert torch.equal(unfold(fold(x, 2), 2), x)
    assert fold(x, 1) is x


def test_every_parameter_gets_a_gradient_from_a_round_trip():
    network = TinyAutoencoder(TinyConfig(128, pooled=True, patch=2))
    network.decode(network.encode(torch.rand(1, 3, 32, 32))).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())


# TAEF2 by index, as madebyollin/taesd publishes it, written without our code


class DescribedBlock(nn.Module):
    def __init__(self, pooled):
        super().__init__()
        c = [nn.Conv2d(64, 64, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(c[0], nn.ReLU(), c[1], nn.ReLU(), c[2])
        if pooled:
            self.pool = nn.Sequential(
                nn.Conv2d(64, 256, 1, bias=False), nn.GroupNorm(4, 256), nn.ReLU(), nn.Conv2d(256, 64, 1, bias=False)
            )

    def forward(self, x):
        x = x + self.pool(x) if hasattr(self, "pool") else x
        return torch.relu(self.conv(x) + x)


class SoftClamp(nn.Module):
    def forward(self, x):
        return torch.tanh(x / 3) * 3


def described_taef2():
    def conv(inner, outer, **options):
        return nn.Conv2d(inner, outer, 3, padding=1, **options)

    def down():
        return conv(64, 64, stride=2, bias=False)

    def up():
        return nn.Upsample(scale_factor=2), conv(64, 64, bias=False)

    def three(pooled=False):
        return (DescribedBlock(pooled) for _ in range(3))

    encoder = nn.Sequential(
        conv(3, 64), DescribedBlock(False), down(), *three(), down(), *three(), down(), *three(True), conv(64, 32)
    )
    decoder = nn.Sequential(
        SoftClamp(),
        conv(32, 64),
        nn.ReLU(),
        *three(True),
        *up(),
        *three(),
        *up(),
        *three(),
        *up(),
        DescribedBlock(False),
        conv(64, 3),
    )
    return encoder.eval(), decoder.eval()


@pytest.fixture(scope="module")
def taef2(shared_data):
    files = [
        torch.load(shared_data / "taef2" / f"taef2_{half}.pth", weights_only=True) for half in ("encoder", "decoder")
    ]
    described = described_taef2()
    for stack, tensors in zip(described, files):
        stack.load_state_dict(tensors, strict=True)
    source, network = load(join_pair(*files))
    assert source.config == TinyConfig(128, pooled=True, patch=2)
    return described, network


def psnr(a, b):
    """Decibels, for pictures in 0..1."""
    return -10 * torch.log10((a - b).square().mean()).item()


def photograph(shared_data, name):
    """The middle of a photograph. [1, 3, 256, 256] in 0..1"""
    with Image.open(shared_data / "photos" / f"{name}.png") as file:
        image = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1)[None] / 255.0
    top, left = ((side - 256) // 2 for side in image.shape[2:])
    return image[..., top : top + 256, left : left + 256]


@pytest.mark.parametrize("photo", ["astronaut", "chelsea", "coffee", "rocket"])
@torch.no_grad()
def test_taef2_real_weights_round_trip_as_the_published_description_untiled_and_by_tiles(taef2, shared_data, photo):
    (encoder, decoder), network = taef2
    image = photograph(shared_data, photo)
    wanted = decoder(encoder(image)).clamp(0, 1)
    latent = network.encode(image * 2 - 1)
    assert latent.shape == (1, 128, image.shape[2] // 16, image.shape[3] // 16)
    by_tiles = tiled.decode(network, tiled.encode(network, image * 2 - 1, (7, 11)), (7, 11))
    for pixels in (network.decode(latent), by_tiles):
        got = (pixels / 2 + 0.5).clamp(0, 1)
        assert abs(psnr(got, image) - psnr(wanted, image)) < 0.01
        assert psnr(got, image) > 25  # a picture, not noise: the reference's own are near 30 dB
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)
