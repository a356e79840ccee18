"""Wan's VAE against diffusers' on tiny random networks: Wan 2.1, Wan 2.2 and Qwen-Image, pictures and videos."""

import pytest
import torch

from clip_vae_lora.vae_core.checkpoint.find import LayoutError, find_vae
from clip_vae_lora.vae_core.networks.wan import AutoencoderWan
from clip_vae_lora.vae_core.networks.wan_config import WanConfig

diffusers = pytest.importorskip("diffusers")

SAME_ARITHMETIC = 1e-5  # of the largest output: fp32 sums in another order
SAME_FORMULA = 1e-12  # of the largest output, in float64

CASES = {
    "Wan 2.1": ("AutoencoderKLWan", {"base_dim": 8, "z_dim": 4}),
    "Wan 2.1, two levels, one block": (
        "AutoencoderKLWan",
        {"base_dim": 6, "z_dim": 3, "dim_mult": [1, 3], "num_res_blocks": 1, "temperal_downsample": [True]},
    ),
    "Wan 2.2": (
        "AutoencoderKLWan",
        {
            "base_dim": 8,
            "decoder_base_dim": 16,
            "z_dim": 6,
            "is_residual": True,
            "patch_size": 2,
            "in_channels": 12,
            "out_channels": 12,
        },
    ),
    "RGBA": ("AutoencoderKLWan", {"base_dim": 8, "z_dim": 4, "in_channels": 4, "out_channels": 4}),
    "Qwen-Image": ("AutoencoderKLQwenImage", {"base_dim": 8, "z_dim": 4, "num_res_blocks": 1}),
}


def reference(kind, numbers):
    """A diffusers model in which every number is random, so that no tensor can hide behind ones or zeros."""
    torch.manual_seed(0)
    model = getattr(diffusers, kind)(**numbers).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or name.endswith("gamma"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def shapes_of(tensors):
    return {name: tuple(t.shape) for name, t in tensors.items()}


def ours(tensors):
    source = find_vae(shapes_of(tensors))
    network = source.build()
    network.load_state_dict(source.translate(tensors), strict=True)
    return source, network.eval()


def assert_equal_up_to(tolerance, got, wanted):
    """No element further off than `tolerance` times the largest one wanted, or 1 where that is smaller."""
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * max(1.0, wanted.abs().max().item()))


@pytest.fixture(params=CASES.values(), ids=CASES.keys(), scope="module")
def pair(request):
    model = reference(*request.param)
    return model, ours(model.state_dict())[1]


def a_video(network, frames, batch=2):
    config, generator = network.config, torch.Generator().manual_seed(1)
    sides = 2 * config.factor, 3 * config.factor
    return torch.rand(batch, config.image_channels, frames, *sides, generator=generator) * 2 - 1


@pytest.mark.parametrize("frames", [1, 5, 9, 13])
@torch.no_grad()
def test_a_video_is_encoded_and_decoded_as_diffusers_does(pair, frames):
    model, network = pair
    if frames > 1 and network.config.frame_factor != 4:  # diffusers takes four frames a step, whatever the network
        frames = 5
    pixels = a_video(network, frames)
    wanted, got = model.encode(pixels).latent_dist, network.encoding(pixels)
    if network.config.frame_factor == 4:
        assert got.mean.shape[2] == (frames + 3) // 4
    assert_equal_up_to(SAME_ARITHMETIC, got.mean, wanted.mean)
    assert_equal_up_to(SAME_ARITHMETIC, got.logvar, wanted.logvar)
    latent = wanted.mean * 2
    assert_equal_up_to(SAME_ARITHMETIC, network.decode(latent).clamp(-1, 1), model.decode(latent).sample)


@torch.no_grad()
def test_encoding_in_float64_is_the_same_formula(pair):  # diffusers' doubling rounds to float32
    model, network = pair[0].double(), pair[1].double()
    pixels = a_video(network, 5, batch=1).double()
    wanted = model.encode(pixels).latent_dist.mean
    assert_equal_up_to(SAME_FORMULA, network.encode(pixels), wanted)
    model.float(), network.float()


@pytest.mark.parametrize("case", CASES)
def test_its_own_file_is_detected_the_same(case):
    model = reference(*CASES[case])
    source, network = ours(model.state_dict())
    assert source.layout == "diffusers" and not source.ignored and source.kind == "wan"
    again, same = ours({f"first_stage_model.{name}": t for name, t in network.state_dict().items()})
    assert (again.layout, again.prefix) == ("wan", "first_stage_model.")
    assert again.config == source.config and not again.ignored
    assert all(torch.equal(t, same.state_dict()[name]) for name, t in network.state_dict().items())


@pytest.mark.parametrize("missing", ["encoder.", "decoder."])
def test_a_file_with_one_half_does_what_it_can(missing):
    config = WanConfig(8, (8, 16), (8, 16), 1, 4, (True,))
    whole = AutoencoderWan(config)
    outside = {"encoder.": "conv1.", "decoder.": "conv2."}[missing]
    tensors = {name: t for name, t in whole.state_dict().items() if not name.startswith((missing, outside))}
    source, network = ours(tensors)
    assert len(source.notes) == 1 and not source.ignored
    with pytest.raises(ValueError, match="load the full VAE"):
        network.half_for({"encoder.": "encode", "decoder.": "decode"}[missing])


def test_the_published_sizes_are_those_of_the_published_files():
    with torch.device("meta"):
        count = sum(p.numel() for p in AutoencoderWan(WanConfig()).parameters())
        assert count == sum(p.numel() for p in diffusers.AutoencoderKLWan().parameters())
        wide = WanConfig(160, (160, 320, 640, 640), (256, 512, 1024, 1024), latent=48, residual=True, patch=2)
        theirs = diffusers.AutoencoderKLWan(
            base_dim=160,
            decoder_base_dim=256,
            z_dim=48,
            is_residual=True,
            patch_size=2,
            in_channels=12,
            out_channels=12,
        )
        count = sum(p.numel() for p in AutoencoderWan(wide).parameters())
        assert count == sum(p.numel() for p in theirs.parameters())
    assert (WanConfig().factor, wide.factor, wide.frame_factor) == (8, 16, 4)


def test_a_damaged_file_is_refused_by_the_tensor():
    shapes = shapes_of(AutoencoderWan(WanConfig(8, (8, 16), (8, 16), 1, 4, (True,))).state_dict())
    without = {name: shape for name, shape in shapes.items() if name != "decoder.upsamples.1.residual.2.bias"}
    with pytest.raises(LayoutError, match="lacks 1 of its .* tensors, 'decoder.upsamples.1.residual.2.bias'"):
        find_vae(without)
    with pytest.raises(LayoutError, match="1 tensors that the Wan video autoencoder it looks like does not"):
        find_vae({**shapes, "decoder.upsamples.1.residual.9.bias": (8,)})
    with pytest.raises(LayoutError, match="'encoder.conv1.weight' is .8, 3., where|convolution 'encoder.conv1.weight'"):
        find_vae({**shapes, "encoder.conv1.weight": (8, 3)})


@torch.no_grad()
def test_what_does_not_fit_is_a_sentence():
    network = AutoencoderWan(WanConfig(8, (8, 16), (8, 16), 1, 4, (True,))).eval()
    with pytest.raises(ValueError, match="wants a video .B, 3, T, H, W., not .1, 3, 16, 16."):
        network.encode(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="multiples of 2 px, not 15 x 16 px"):
        network.encode(torch.zeros(1, 3, 1, 15, 16))
    with pytest.raises(ValueError, match="the latent of a video, .B, 4, t, h, w., not .1, 4, 8, 8."):
        network.decode(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="has 16 channels, this VAE wants 4"):
        network.decode(torch.zeros(1, 16, 1, 8, 8))
    with pytest.raises(ValueError, match="is empty"):
        network.decode(torch.zeros(1, 4, 0, 8, 8))


@torch.no_grad()
def test_frames_that_fill_no_latent_frame_are_left_out():
    network = AutoencoderWan(WanConfig(8, (8, 8, 8), (8, 8, 8), 1, 4, (True, True))).eval()
    pixels = torch.rand(1, 3, 8, 16, 16, generator=torch.Generator().manual_seed(2))
    assert torch.equal(network.encode(pixels), network.encode(pixels[:, :, :5]))
    assert network.encode(pixels).shape == (1, 4, 2, 4, 4)
