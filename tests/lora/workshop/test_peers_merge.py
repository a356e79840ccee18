"""Merging beside PEFT and sd-scripts on the same inputs: equal where they are right, and their defects by name."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clip_vae_lora.lora.kinds.adapters import LoRA
from clip_vae_lora.lora.workshop.algebra import spectrum_of
from clip_vae_lora.lora.workshop.merging.methods import Recipe, combine
from clip_vae_lora.lora.workshop.thin import thin_of

OUT, IN, WEIGHTS = 48, 40, [0.7, 0.4]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LORAS = [
    LoRA(random(OUT, 4, seed=1), random(4, IN, seed=2), 2.0),
    LoRA(random(OUT, 4, seed=3), random(4, IN, seed=4), 4.0),
]
THINS = [thin_of(lora) for lora in LORAS]
SUM = sum(lora.delta((OUT, IN), weight) for lora, weight in zip(LORAS, WEIGHTS))


def relative(one, other):
    return ((one.double() - other.double()).norm() / other.double().norm()).item()


@pytest.fixture
def peft():
    """A PEFT model of one Linear with both LoRAs, whose `add_weighted_adapter` gives a merged change."""
    peft = pytest.importorskip("peft", exc_type=ImportError)
    network = nn.Sequential()
    network.add_module("layer", nn.Linear(IN, OUT, bias=False))
    model = None
    for number, lora in enumerate(LORAS):
        config = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=["layer"])
        if model is None:
            model = peft.get_peft_model(network, config, "0")
        else:
            model.add_adapter(str(number), config)
        layer = model.base_model.model.layer
        with torch.no_grad():
            layer.lora_A[str(number)].weight.copy_(lora.down)
            layer.lora_B[str(number)].weight.copy_(lora.up)

    def merged(weights, combination, **more):
        model.add_weighted_adapter(["0", "1"], weights, "merged", combination, **more)
        return layer.get_delta_weight("merged").detach()

    return SimpleNamespace(merged=merged)


@pytest.mark.parametrize("weights", [[0.7, 0.4], [1.0, -0.5]])
@pytest.mark.parametrize("rank", [3, 8])
def test_our_sum_cut_to_a_rank_is_pefts_svd(peft, weights, rank):
    ours = spectrum_of(combine(THINS, weights, Recipe())).cut(rank)
    assert relative(ours.change(), peft.merged(weights, "svd", svd_rank=rank)) < 2e-5  # its SVD is in fp32


def test_our_sum_is_pefts_cat(peft):
    assert relative(combine(THINS, WEIGHTS, Recipe()).change(), peft.merged(WEIGHTS, "cat")) < 1e-6


@pytest.mark.parametrize("density", [0.3, 0.7])
def test_our_ties_on_the_weights_is_pefts_ties_svd_at_equal_weights(peft, density):
    ours = combine(THINS, [1.0, 1.0], Recipe("ties", density=density, aligned=False))
    theirs = peft.merged([1.0, 1.0], "ties_svd", svd_rank=IN, density=density)
    assert relative(ours.change(), theirs) < 2e-5


def test_pefts_linear_adds_factors_instead_of_products_and_is_0_9_off(peft):
    assert relative(peft.merged(WEIGHTS, "linear"), SUM) > 0.8
    assert relative(combine(THINS, WEIGHTS, Recipe()).change(), SUM) < 1e-6


def test_pefts_ties_of_the_factors_is_no_ties_of_the_changes(peft):
    ours = combine(THINS, [1.0, 1.0], Recipe("ties", density=0.5, aligned=False)).change()
    assert relative(peft.merged([1.0, 1.0], "ties", density=0.5), ours) > 0.8


def sd_scripts_merge(ratios, concat):
    """The mathematics of networks/merge_lora.py (commit 077f6a4): the ratio is multiplied into both factors."""
    base = LORAS[0].alpha
    scales = [math.sqrt(lora.alpha / base) * ratio for lora, ratio in zip(LORAS, ratios)]
    ups = [lora.up * abs(scale) for lora, scale in zip(LORAS, scales)]
    downs = [lora.down * scale for lora, scale in zip(LORAS, scales)]
    if concat:
        up, down = torch.cat(ups, 1), torch.cat(downs)
    else:
        up, down = ups[0] + ups[1], downs[0] + downs[1]
    return up @ down * (base / down.shape[0])


def test_sd_scripts_adds_factors_instead_of_products():
    ratios = [math.sqrt(weight) for weight in WEIGHTS]  # as its users are told to give them
    assert relative(sd_scripts_merge(ratios, concat=False), SUM) > 0.5
    assert relative(sd_scripts_merge(WEIGHTS, concat=False), SUM) > 0.5


def test_sd_scripts_squares_the_strength_and_forgets_that_joined_factors_have_twice_the_rank():
    found = sd_scripts_merge(WEIGHTS, concat=True)
    squared = sum(lora.delta((OUT, IN), weight * weight) for lora, weight in zip(LORAS, WEIGHTS))
    assert relative(found, squared / 2) < 1e-6
    assert relative(found, SUM) > 0.6


def sd_scripts_svd_merge(rank):
    """The mathematics of networks/svd_merge_lora.py: the right sum, and then all factors cut at their 99 % quantile."""
    u, s, vt = torch.linalg.svd(SUM)
    up, down = u[:, :rank] * s[:rank], vt[:rank]
    high = torch.quantile(torch.cat([up.flatten(), down.flatten()]), 0.99)
    return up.clamp(-high, high) @ down.clamp(-high, high), up @ down


def test_sd_scripts_svd_merge_has_the_right_sum_and_clamps_the_leading_directions():
    clamped, right = sd_scripts_svd_merge(8)
    ours = spectrum_of(combine(THINS, WEIGHTS, Recipe())).cut(8).change()
    assert relative(ours, right) < 2e-6 and relative(ours, SUM) < 2e-6
    assert relative(clamped, SUM) > 0.005
