"""Distribution, interpolation and prior as nodes, on the standalone host; SSIM in Compare Images."""

import json
import math

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.vae_core.config import FAMILIES
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL
from clip_vae_lora.vae_core.networks.tiny import TinyAutoencoder, TinyConfig
from clip_vae_lora.vae_core.quality import ssim

from ...support import tiny
from ...support.model_space import to_model_space

NAN = float("nan")


@pytest.fixture
def vae(place):
    """4 channels, cells of 2 px."""
    tiny.vae_file(place.models / "vae" / "tiny.safetensors")
    return place.node("CVL_LoadVAE").load("tiny.safetensors")["result"][0]


def picture(height=20, width=24, batch=2, channels=3):
    return torch.rand(batch, height, width, channels, generator=torch.Generator().manual_seed(0))


def noise(batch=1, seed=0, shape=(4, 6, 5), **more):
    return {"samples": torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed)), **more}


def report(answer):
    return json.loads(next(value for value in answer["result"] if isinstance(value, str)))


# the distribution


def test_mean_and_log_variance_are_the_networks_own(place, vae):
    network = AutoencoderKL(tiny.VAE_CONFIG)
    network.load_state_dict(vae.network.state_dict())
    with torch.no_grad():
        posterior = network.posterior(picture().movedim(-1, 1) * 2 - 1)
    answer = place.node("CVL_LatentDistribution").measure(picture(), vae)
    mean, logvar, plot, _ = answer["result"]
    torch.testing.assert_close(mean["samples"], posterior.mean, rtol=0, atol=1e-6)  # picture by picture, not at once
    torch.testing.assert_close(logvar["samples"], posterior.logvar, rtol=0, atol=1e-5)  # a sum of more terms
    assert plot.shape == (1, 800, 1024, 3) and 0 <= plot.min() and plot.max() <= 1 and len(answer["ui"]["images"]) == 1
    found = report(answer)
    assert found["kl_nats"] == pytest.approx(float(posterior.kl().mean()), abs=1e-3)  # shown with three digits
    assert sum(channel["kl_nats"] for channel in found["channels"]) == pytest.approx(found["kl_nats"], abs=1e-2)
    assert len(found["channels"]) == 4


def test_the_mean_is_vae_encodes(place, vae):
    mean = place.node("CVL_LatentDistribution").measure(picture(), vae)["result"][0]
    assert torch.equal(mean["samples"], place.node("CVL_VAEEncode").encode(picture(), vae)["result"][0]["samples"])


def test_a_size_that_fills_no_cells_is_padded_and_remembered_in_both(place, vae):
    answer = place.node("CVL_LatentDistribution").measure(picture(19, 24), vae)
    assert [latent["cvl_size_px"] for latent in answer["result"][:2]] == [[19, 24]] * 2
    assert answer["result"][0]["samples"].shape == (2, 4, 10, 12) and "mirrored 1 rows" in answer["ui"]["text"][0]
    assert place.node("CVL_LatentDistribution").measure(picture(1, 1), vae)["result"][0]["samples"].shape[2:] == (1, 1)


def test_a_tiny_autoencoder_has_no_distribution_and_says_so(place):
    write_tensors(place.models / "vae" / "taesd.safetensors", TinyAutoencoder(TinyConfig(4)).state_dict(), {})
    vae = place.node("CVL_LoadVAE").load("taesd.safetensors")["result"][0]
    for call in (
        lambda: place.node("CVL_LatentDistribution").measure(picture(16, 16), vae),
        lambda: place.node("CVL_VAEEncode").encode(picture(16, 16), vae, "sample"),
    ):
        with pytest.raises(ValueError, match="encodes to one latent and has no distribution"):
            call()


# interpolation


def test_steps_are_a_batch_from_the_first_to_the_second_pair_after_pair(place):
    first, second = noise(2), noise(2, 1)
    for mode in ("linear", "spherical"):
        answer = place.node("CVL_LatentInterpolate").interpolate(first, second, 0.9, mode, 3)
        found = answer["result"][0]["samples"]
        assert found.shape == (6, 4, 6, 5) and report(answer)["factors"] == [0.0, 0.5, 1.0]
        assert torch.equal(found[[0, 3]], first["samples"]) and torch.equal(found[[2, 5]], second["samples"])
        half = place.node("CVL_LatentInterpolate").interpolate(first, second, 0.5, mode)["result"][0]["samples"]
        assert torch.equal(found[[1, 4]], half)


def test_what_the_first_carries_is_kept_for_each_of_its_latents_and_the_seconds_is_named(place):
    mask = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 48, 40)
    first = noise(2, noise_mask=mask, batch_index=[4, 9], cvl_size_px=[47, 40])
    answer = place.node("CVL_LatentInterpolate").interpolate(first, noise(2, 1, type="audio"), 0.5, "linear", 3)
    latent = answer["result"][0]
    assert latent["noise_mask"][:, 0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1] and latent["cvl_size_px"] == [47, 40]
    assert latent["batch_index"] == [4, 4, 4, 9, 9, 9] and set(first) == set(latent)
    assert report(answer)["dropped_from_second"] == ["type"]
    assert "not taken from the second: type" in answer["ui"]["text"][0]


def test_one_mask_stays_one_mask(place):
    first = noise(2, noise_mask=torch.ones(1, 1, 48, 40))
    latent = place.node("CVL_LatentInterpolate").interpolate(first, noise(2, 1), 0.5, "linear", 3)["result"][0]
    assert latent["noise_mask"].shape == (1, 1, 48, 40)


def test_the_inputs_of_an_interpolation_are_left_as_they_were(place):
    first = noise(2, noise_mask=torch.ones(2, 1, 4, 4))
    before = first["samples"].clone()
    place.node("CVL_LatentInterpolate").interpolate(first, noise(2, 1), 0.5, steps=2)
    assert torch.equal(first["samples"], before) and first["noise_mask"].shape == (2, 1, 4, 4)


def test_opposite_latents_are_mixed_linearly_and_that_is_said(place):
    first = noise()
    answer = place.node("CVL_LatentInterpolate").interpolate(first, {"samples": -first["samples"]}, 0.25)
    assert "1 of 1 mixed linearly" in answer["ui"]["text"][0] and report(answer)["cosine"] == [-1.0]
    zero = {"samples": torch.zeros(1, 4, 6, 5)}
    answer = place.node("CVL_LatentInterpolate").interpolate(zero, zero, 0.25)
    assert report(answer)["cosine"] == [None] and report(answer)["without_an_arc"] == 1


@pytest.mark.parametrize(
    "second,said",
    [
        (noise(shape=(16, 6, 5)), "two latents of one shape"),
        (noise(3), "there are 2 and 3"),
        ({"samples": torch.full((2, 4, 6, 5), NAN)}, "the second LATENT has NaN"),
        ({"samples": torch.zeros(2, 4, 0, 5)}, r"the second LATENT is \[2, 4, 0, 5\]"),
        ({"samples": torch.zeros(4, 6)}, r"the second LATENT is \[4, 6\]"),
        (torch.zeros(1), "a LATENT was expected"),
    ],
)
def test_latents_that_can_not_be_mixed_are_one_sentence(place, second, said):
    with pytest.raises(ValueError, match=said) as error:
        place.node("CVL_LatentInterpolate").interpolate(noise(2), second, 0.5)
    assert "\n" not in str(error.value)


# the prior


@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_prior_has_its_channels_and_statistics(place, family):
    answer = place.node("CVL_SamplePrior").draw(512, 256, 2, 3, family)
    samples = answer["result"][0]["samples"]
    cell = report(answer)["px_per_cell"]
    assert samples.shape == (2, FAMILIES[family].latent, 256 // cell, 512 // cell)
    normal = to_model_space(samples, family)
    assert abs(normal.mean()) < 6 / normal.numel() ** 0.5 and abs(normal.std() - 1) < 6 / (2 * normal.numel()) ** 0.5


def test_a_size_that_fills_no_cells_is_remembered_by_the_prior(place):
    latent = place.node("CVL_SamplePrior").draw(500, 513, 1, 0, "sd1")["result"][0]
    assert latent["samples"].shape == (1, 4, 65, 63) and latent["cvl_size_px"] == [513, 500]
    assert set(place.node("CVL_SamplePrior").draw(512, 512, 1, 0, "sd1")["result"][0]) == {"samples"}


def test_a_vae_gives_cells_and_channels_and_decodes_what_was_drawn(place, vae):
    latent = place.node("CVL_SamplePrior").draw(20, 12, 1, 0, "sdxl", vae)["result"][0]
    assert latent["samples"].shape == (1, 4, 6, 10)
    assert place.node("CVL_VAEDecode").decode(latent, vae)["result"][0].shape == (1, 12, 20, 3)
    plain = place.node("CVL_SamplePrior").draw(200, 200, 1, 0, "standard normal", vae)
    assert abs(report(plain)["std"] - 1) < 0.03  # 40,000 numbers: 0.03 is eight standard errors


def test_a_family_that_does_not_fit_the_vae_and_a_missing_vae_are_one_sentence(place, vae):
    with pytest.raises(ValueError, match="a latent of flux has 16 channels, this VAE wants 4"):
        place.node("CVL_SamplePrior").draw(64, 64, 1, 0, "flux", vae)
    with pytest.raises(ValueError, match="standard normal needs a VAE"):
        place.node("CVL_SamplePrior").draw(64, 64, 1, 0, "standard normal")


# comparing


def test_compare_images_gives_the_mean_ssim_and_each_pairs(place):
    first, second = picture(), picture().flip(0)
    answer = place.node("CVL_CompareImages").compare(first, second)
    expected = ssim(first, second).tolist()
    assert answer["result"][3] == pytest.approx(sum(expected) / 2, abs=1e-12)
    assert report(answer)["ssim_pictures"] == [round(value, 6) for value in expected]
    assert place.node("CVL_CompareImages").compare(first, first)["result"][3] == 1.0


def test_pictures_below_the_window_have_no_ssim_and_that_is_said(place):
    small = picture(10, 30)
    answer = place.node("CVL_CompareImages").compare(small, small)
    assert math.isnan(answer["result"][3]) and report(answer)["ssim"] is None
    other = place.node("CVL_CompareImages").compare(small, 1 - small)
    assert "no SSIM: it needs sides of 11 px" in other["ui"]["text"][0]


@pytest.mark.parametrize("node", ["CVL_LatentDistribution", "CVL_CompareImages"])
@pytest.mark.parametrize(
    "image,said",
    [
        (torch.full((1, 20, 24, 3), NAN), "NaN"),
        (picture(channels=1), "RGB pictures"),
        (picture()[None], "RGB pictures"),
        (torch.zeros(0, 4, 4, 3), "no pixels"),
    ],
)
def test_a_bad_picture_is_one_sentence(place, vae, node, image, said):
    call = {
        "CVL_LatentDistribution": lambda n: n.measure(image, vae),
        "CVL_CompareImages": lambda n: n.compare(picture(), image),
    }[node]
    with pytest.raises(ValueError, match=said) as error:
        call(place.node(node))
    assert "\n" not in str(error.value)
