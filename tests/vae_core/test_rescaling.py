"""A VAE made fit for fp16: the same outputs, of numbers that fp16 holds."""

import math

import pytest
import torch

from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL
from clip_vae_lora.vae_core.rescaling.factors import EXACT, LARGEST, fitted, measured, parts_of, rescale

CONFIG = VAEConfig(32, (1, 2, 2), 1, 4, True)
TOO_LARGE = {  # parts, and how many times larger their numbers are made
    "the decoder's stream": {"decoder.conv_in": 3e5},
    "between two convolutions": {"decoder.mid.block_1.conv1": 1e6},
    "after a change of the width": {"decoder.up.0.block.0.conv2": 3e5},
    "after a change of the size": {"decoder.up.1.upsample.conv": 3e5},
    "the values of an attention": {"decoder.mid.attn_1.v": 3e5, "decoder.conv_in": 100},
    "the encoder's stream": {"encoder.conv_in": 3e5},
    "on the way down": {"encoder.down.0.downsample.conv": 3e5},
    "in the encoder's last block": {"encoder.mid.block_2.conv2": 1.5e5, "encoder.down.1.downsample.conv": 1000},
}


def network(what, seed=0):
    torch.manual_seed(seed)
    net = AutoencoderKL(CONFIG).requires_grad_(False).eval()
    for part, times in what.items():
        for name, tensor in net.named_parameters():
            if name.startswith(part):
                tensor.mul_(times)
    return net


def outputs(net, pixels):
    """The latent, and the picture of another one, so that both halves have their own input."""
    latent = net.posterior(pixels).mean
    seen = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).to(pixels)
    return latent, net.as_pixels(net.half_for("decode")(net.into_decoder(seen)))


def pixels():
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize("what", TOO_LARGE)
def test_outputs_stay_and_fp16_holds_every_number(what):
    net = network(TOO_LARGE[what])
    largest = measured(net, lambda: outputs(net, pixels()))
    assert set(largest) == set(parts_of(net)) and max(largest.values()) > LARGEST
    assert any(not one.isfinite().all() for one in outputs(network(TOO_LARGE[what]).half(), pixels().half()))

    other = network(TOO_LARGE[what])
    found, moved = fitted(other, net.state_dict(), lambda: outputs(other, pixels()))
    assert found.before > LARGEST >= 2 * found.after and moved <= EXACT
    again = measured(other, lambda: outputs(other, pixels()))
    assert max(again.values()) == pytest.approx(found.after, rel=1e-3)
    for own, made in zip(outputs(net, pixels()), outputs(other, pixels())):
        assert (made - own).abs().max() <= EXACT * own.abs().max()
    for own, made in zip(outputs(net, pixels()), outputs(other.half(), pixels().half())):
        assert (made.float() - own).abs().max() <= 0.02 * own.abs().max()  # fp16 itself


def test_what_fits_stays_as_it_is_to_the_bit():
    net = network({})
    found = rescale(net, net.state_dict(), measured(net, lambda: outputs(net, pixels())))
    assert not found.factors and found.after == found.before < LARGEST
    assert all(torch.equal(tensor, found.state[name]) for name, tensor in net.state_dict().items())


def test_only_powers_of_two_are_used_so_that_a_file_in_fp16_keeps_its_digits():
    net = network({"decoder.conv_in": 3e5}).bfloat16()
    state = net.state_dict()
    wide = AutoencoderKL(CONFIG).requires_grad_(False).eval()
    wide.load_state_dict(state)
    found = rescale(wide, state, measured(wide, lambda: outputs(wide, pixels())))
    assert found.factors and all(math.log2(factor).is_integer() for factor in found.factors.values())
    for name, tensor in found.state.items():
        assert tensor.dtype == torch.bfloat16
        ratio = (tensor.double() / state[name].double()).flatten()
        assert (ratio[state[name].flatten() != 0] == ratio[state[name].flatten() != 0][:1]).all()


def test_one_half_alone_is_rescaled():
    torch.manual_seed(0)
    net = AutoencoderKL(CONFIG, encoder=False).requires_grad_(False).eval()
    net.decoder.conv_in.weight.mul_(1e6)
    latent = torch.randn(1, 4, 8, 8)
    found = rescale(net, net.state_dict(), measured(net, lambda: net.decoder(latent)))
    assert found.after < LARGEST < found.before and not any(part.startswith("encoder") for part in found.factors)
