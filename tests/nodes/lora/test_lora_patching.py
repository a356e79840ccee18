"""Changed copies of networks without ComfyUI: rows, biases, and what is shared with the copy before."""

import pytest
import torch
from torch import nn

from clip_vae_lora.lora.kinds.adapters import LoRA
from clip_vae_lora.lora.kinds.whole import Difference
from clip_vae_lora.lora.models.places import Slice
from clip_vae_lora.lora.weights.fusing import Change
from clip_vae_lora.lora.weights.patching import with_patches


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 4))


def lora(out, inner, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return LoRA(torch.randn(out, 2, generator=generator), torch.randn(2, inner, generator=generator), 2.0)


def test_rows_and_biases_are_places_too(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    rows, bias = lora(3, 4), Difference(torch.ones(4))
    changed = with_patches(
        network, {Slice("0.weight", (0, 3, 3)): [Change(rows, 0.5)], "1.bias": [Change(bias, -1.0)]}
    ).state_dict()
    assert torch.equal(changed["0.weight"][:3], before["0.weight"][:3])
    assert torch.allclose(changed["0.weight"][3:], before["0.weight"][3:] + rows.delta((3, 4), 0.5))
    assert torch.equal(changed["1.bias"], before["1.bias"] - 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_only_the_weights_that_a_changed_strength_touches_are_merged_again(network):
    first, second = lora(6, 4), lora(4, 6)
    one = with_patches(network, {"0.weight": [Change(first, 1.0)], "1.weight": [Change(second, 1.0)]})
    two = with_patches(network, {"0.weight": [Change(first, 1.0)], "1.weight": [Change(second, 0.5)]})
    assert two[0].weight is one[0].weight and two[1].weight is not one[1].weight
    assert torch.allclose(two[1].weight, network[1].weight + second.delta((4, 6), 0.5))
    assert two[0].bias is network[0].bias


def test_a_change_that_is_gone_is_taken_back_to_the_bit(network):
    one = with_patches(network, {"0.weight": [Change(lora(6, 4), 1.0)], "1.weight": [Change(lora(4, 6), 1.0)]})
    two = with_patches(network, {"1.weight": [Change(lora(4, 6), 1.0)]})
    assert not torch.equal(one[0].weight, network[0].weight)
    assert two[0].weight is network[0].weight
