"""What is computed in float64 on devices without it: MPS, Intel's Arc."""

import pytest
import torch

from clip_vae_lora.vae_core.latents import bits_per_pixel, channel_statistics, interpolate
from clip_vae_lora.vae_core.quality import psnr_db, psnr_db_each, ssim
from clip_vae_lora.vae_core.wide import has_float64, wide

from ..support.calls import latent, pictures
from ..support.cards.card import card

WITHOUT = ["mps", "xpu"]


def both(kind, work, *tensors):
    """What `work` makes of the tensors on the CPU, and on a device that lacks float64, brought back."""
    expected = work(*tensors)
    with card(kind, float64=False):
        found = work(*(tensor.to(kind) for tensor in tensors))
        return expected, tuple(one.cpu() if isinstance(one, torch.Tensor) else one for one in found)


def same(expected, found):
    for wanted, got in zip(expected, found, strict=True):
        assert torch.equal(wanted, got) if isinstance(wanted, torch.Tensor) else wanted == got


@pytest.mark.parametrize("kind", WITHOUT)
@pytest.mark.parametrize("spherical", [True, False])
def test_interpolation_has_the_cpus_bits_and_stays_where_the_first_is(kind, spherical):
    first, second = latent(2)["samples"], latent(2, seed=1)["samples"]

    def work(a, b):
        mixed = interpolate(a, b, [0.3, 0.7], spherical=spherical)
        assert mixed.latent.device == a.device
        return mixed.latent, mixed.cosine, mixed.straight

    same(*both(kind, work, first, second))


@pytest.mark.parametrize("kind", WITHOUT)
def test_channel_statistics_have_the_cpus_bits(kind):
    def work(mean, logvar):
        found = channel_statistics(mean, logvar)
        return found.kl, found.mean, found.std, found.noise, bits_per_pixel(found.kl, 64, 64)

    same(*both(kind, work, latent(2)["samples"], latent(2, seed=1)["samples"]))


@pytest.mark.parametrize("kind", WITHOUT)
def test_psnr_and_ssim_have_the_cpus_bits(kind):
    def work(first, second):
        return psnr_db(first, second), *psnr_db_each(first, second), ssim(first, second)

    same(*both(kind, work, pictures(2), pictures(2, seed=1)))


def test_the_psnr_of_each_pair_is_its_own_and_a_card_is_waited_for_once():
    first, second = pictures(4), pictures(4, seed=1)
    assert psnr_db_each(first, second) == [psnr_db(one, other) for one, other in zip(first, second)]
    assert psnr_db_each(first, first) == [float("inf")] * 4
    with card() as cost:
        there = first.to("cuda"), second.to("cuda")
        cost.reset()
        psnr_db_each(*there)
        assert len(cost.waits) == 1


def test_a_device_that_has_float64_computes_there_and_one_that_has_not_on_the_cpu():
    with card("cuda"):
        assert wide(torch.ones(2).to("cuda")).device.type == "cuda"
    for kind, there in (("xpu", True), ("xpu", False), ("mps", False)):
        with card(kind, float64=there):
            assert has_float64(torch.device(kind)) == there
            found = wide(torch.ones(2).to(kind))
            assert found.dtype == torch.float64 and found.device.type == (kind if there else "cpu")


def test_the_card_that_lacks_float64_says_so():
    with card("mps"):
        with pytest.raises(TypeError, match="float64, which it lacks"):
            torch.ones(2).to("mps").double()
        with pytest.raises(TypeError, match="float64, which it lacks"):
            torch.zeros(2, dtype=torch.float64, device="mps")
