"""The sub-pixel convolution against what it stands for; attention that looks at a part of the cells at a time."""

import pytest
import torch
from torch.nn import functional

from clip_vae_lora.vae_core import doubling, layers
from clip_vae_lora.vae_core.doubling import doubled
from clip_vae_lora.vae_core.layers import Attention, Layers, Up


def plainly(x, weight, bias):
    return functional.conv2d(functional.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 3)])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_doubling_and_convolving_is_done_in_one(size, grad, memory):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((2, 5, *size), (7, 5, 3, 3), (7,))
    )
    with torch.set_grad_enabled(grad):
        got = doubled(x.to(memory_format=memory), weight, bias)
    torch.testing.assert_close(got, plainly(x, weight, bias), rtol=0, atol=1e-12)  # float64: sums in another order


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 3)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("biased", [True, False])
def test_what_a_card_does_at_once_is_the_same(size, memory, biased):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((2, 5, *size), (7, 5, 3, 3), (7,))
    )
    bias = bias if biased else None
    got = doubling.doubled_at_once(x.to(memory_format=memory), weight, bias)
    torch.testing.assert_close(got, plainly(x, weight, bias), rtol=0, atol=1e-12)  # float64: sums in another order


def test_the_gradients_are_those_of_doubling_and_convolving():
    x, weight = torch.randn(1, 3, 4, 2, dtype=torch.float64), torch.randn(2, 3, 3, 3, dtype=torch.float64)
    found = []
    for way in (doubled, plainly):
        leaves = [t.clone().requires_grad_() for t in (x, weight)]
        way(*leaves, None).square().sum().backward()
        found.append([t.grad for t in leaves])
    torch.testing.assert_close(found[0], found[1])


@torch.no_grad()
def test_the_weight_is_taken_as_the_hosts_layer_casts_it():
    class Patched(torch.nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, self.weight * 3, self.bias)

    operations = type("Operations", (), {"Conv2d": Patched, "GroupNorm": torch.nn.GroupNorm})
    up, x = Up(32, Layers(operations, None, None)), torch.randn(1, 32, 3, 3)
    torch.testing.assert_close(up(x), plainly(x, up.conv.weight * 3, up.conv.bias), rtol=1e-5, atol=1e-5)
    assert isinstance(up.conv, Patched)


@torch.no_grad()
def test_attention_in_parts_is_attention(monkeypatch):
    attention, x = Attention(32, Layers(torch.nn, None, None)), torch.randn(2, 32, 5, 7)
    wanted = attention(x)
    monkeypatch.setattr(layers, "SCORES", 35 * 4)  # four queries at a time
    torch.testing.assert_close(attention(x), wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_nothing_in_place_touches_the_input():
    block, x = layers.ResidualBlock(32, 32, Layers(torch.nn, None, None)), torch.randn(1, 32, 4, 4)
    before = x.clone()
    first = block(x)
    assert torch.equal(x, before) and torch.equal(block(x), first)
