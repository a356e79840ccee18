"""The rules of ranks, against their definitions and the published rules of sd-scripts and LyCORIS."""

import itertools

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRAError
from clip_vae_lora.lora.workshop.noise import count_above, noise_of_factors, rounding_noise
from clip_vae_lora.lora.workshop.ranks import RULES, Rule, Share, rank_by, share_out, size_of


def values_of(count, seed=0):
    numbers = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01
    return (numbers**3).sort(descending=True).values


def energy_of(values):
    return values.square().sum().item()


SHARES = [0.1, 0.5, 0.9, 0.97, 0.999, 1.0]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("rule", ["energy", "frobenius", "sum"])
def test_a_share_is_kept_by_the_smallest_rank_that_keeps_it(rule, share):
    values = values_of(40)
    rank = rank_by(Rule(rule, share), values, energy_of(values))

    def kept(count):
        part = values[:count]
        if rule == "sum":
            return (part.sum() / values.sum()).item()
        squares = energy_of(part) / energy_of(values)
        return squares if rule == "energy" else squares**0.5

    assert kept(rank) >= share * (1 - 1e-12)  # the rounding of the sums
    assert rank == 1 or kept(rank - 1) < share


@pytest.mark.parametrize("ratio", [1, 2, 7.5, 100, 1e9])
def test_a_ratio_keeps_what_is_larger_than_the_largest_over_it(ratio):
    values = values_of(40)
    rank = rank_by(Rule("ratio", ratio), values, energy_of(values))
    assert rank == max(1, sum(value > values[0] / ratio for value in values))


def test_a_rank_is_kept_as_far_as_there_are_values():
    values = torch.tensor([3.0, 1.0, 1e-20, 0.0], dtype=torch.float64)
    assert [rank_by(Rule("rank", rank), values, 10.0) for rank in (1, 2, 3, 90)] == [1, 2, 2, 2]
    assert rank_by(Rule("energy", 1.0, most=1), values, 10.0) == 1
    assert rank_by(Rule("rank", 4), torch.zeros(4, dtype=torch.float64), 0.0) == 0


# kohya-ss/sd-scripts networks/resize_lora.py: index_sv_cumulative, index_sv_fro and index_sv_ratio, then rank_resize
def of_sd_scripts(rule, values, amount):
    """Its published rule, and the rank that it then takes."""
    if rule == "sum":
        index = int(torch.searchsorted(values.cumsum(0) / values.sum(), amount)) + 1
    elif rule == "frobenius":
        index = int(torch.searchsorted(values.square().cumsum(0) / energy_of(values), amount**2)) + 1
    else:
        index = int((values > values[0] / amount).sum())
    index = max(1, min(index, len(values) - 1))
    return index, index + 1


@pytest.mark.parametrize(
    "rule, amount", [*itertools.product(["sum", "frobenius"], SHARES[:-1]), ("ratio", 2.0), ("ratio", 20.0)]
)
def test_sd_scripts_counts_the_same_values_and_then_keeps_one_more(rule, amount):
    values = values_of(40)
    ours = rank_by(Rule(rule, amount), values, energy_of(values))
    index, new_rank = of_sd_scripts(rule, values, amount)
    assert ours == index  # the rule itself is right
    assert new_rank == ours + 1  # what it then keeps is one too many


@pytest.mark.parametrize("rule", ["sum", "frobenius"])
def test_sd_scripts_cannot_keep_everything_by_its_rule(rule):
    values = torch.ones(8, dtype=torch.float64)
    assert rank_by(Rule(rule, 1.0), values, energy_of(values)) == 8
    assert of_sd_scripts(rule, values, 1.0)[0] == 7  # capped at one less than there are


# KohakuBlueleaf/LyCORIS lycoris/utils/__init__.py, extract_linear: mode "ratio" keeps sigma > ratio * sigma_1
@pytest.mark.parametrize("ratio", [2.0, 10.0, 33.0])
def test_lycoris_ratio_is_ours_upside_down(ratio):
    values = values_of(40)
    theirs = int((values > (1 / ratio) * values[0]).sum())
    assert rank_by(Rule("ratio", ratio), values, energy_of(values)) == theirs


@pytest.mark.parametrize(
    "rule, amount, sentence",
    [
        ("rank", 0, "the rank is 0: expected a whole number of at least 1"),
        ("rank", 2.5, "the rank is 2.5"),
        ("energy", 0.0, "the share to keep is 0"),
        ("frobenius", 1.5, "the share to keep is 1.5"),
        ("ratio", 0.5, "the ratio is 0.5: expected 1 or more"),
        ("size", 0, "the size of the file is 0 MB"),
        ("size", float("nan"), "the amount of the rule size is nan"),
        ("knee", 1, "the rule is 'knee': expected one of rank, energy"),
    ],
)
def test_amounts_that_mean_nothing_are_refused(rule, amount, sentence):
    with pytest.raises(LoRAError, match=sentence):
        Rule(rule, amount)
    assert set(RULES) == {"rank", "energy", "frobenius", "sum", "ratio", "automatic", "size"}


def test_a_bound_below_1_and_an_unknown_noise_are_refused():
    with pytest.raises(LoRAError, match="the largest rank is 0"):
        Rule("energy", 0.5, most=0)
    with pytest.raises(LoRAError, match="needs the noise"):
        rank_by(Rule("automatic"), values_of(4), 1.0)


def error_of(layers, ranks):
    return sum(layer.weight * energy_of(layer.values[rank:]) for layer, rank in zip(layers, ranks))


layer_lists = st.lists(
    st.builds(
        lambda seed, count, cost, once, weight: Share(values_of(count, seed), cost, once, weight),
        st.integers(0, 99),
        st.integers(1, 12),
        st.integers(1, 50),
        st.integers(0, 30),
        st.sampled_from([1.0, 0.01, 7.0]),
    ),
    min_size=1,
    max_size=6,
)


@hypothesis.given(layer_lists, st.integers(0, 3000))
def test_a_file_size_is_kept_and_no_fixed_rank_of_that_size_is_better(layers, budget):
    ranks = share_out(layers, budget)
    assert size_of(layers, ranks) <= budget
    assert all(0 <= rank <= len(layer.values) for layer, rank in zip(layers, ranks))
    for fixed in range(1, 13):
        same = [min(fixed, len(layer.values)) for layer in layers]
        if size_of(layers, same) <= budget:
            assert error_of(layers, ranks) <= error_of(layers, same) * (1 + 1e-12)  # two orders of one sum


@hypothesis.given(layer_lists, st.integers(0, 3000))
def test_nothing_more_fits_into_the_size(layers, budget):
    ranks = share_out(layers, budget)
    left = budget - size_of(layers, ranks)
    for layer, rank in zip(layers, ranks):
        assert rank == len(layer.values) or left < layer.bytes_per_rank + (0 if rank else layer.bytes_once)


def test_of_layers_that_cost_the_same_the_largest_values_are_kept():
    layers = [Share(values_of(9, seed), 10) for seed in range(4)]
    ranks = share_out(layers, 150)
    kept = torch.cat([layer.values[:rank] for layer, rank in zip(layers, ranks)])
    assert sum(ranks) == 15
    assert kept.min() >= max(layer.values[rank:].max() for layer, rank in zip(layers, ranks) if rank < 9)


# ---- the noise of rounding


def rounded(weight, dtype):
    return weight.to(dtype).float()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(200, 200), (100, 700), (900, 64)], ids=str)
def test_the_edge_is_just_above_the_singular_values_of_rounding(dtype, shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 0.02
    errors = (weight - rounded(weight, dtype)).double()
    noise = rounding_noise(rounded(weight, dtype), dtype)
    largest = torch.linalg.svdvals(errors)[0].item()
    assert noise.variance == pytest.approx(errors.square().mean().item(), rel=0.05)  # 40,000 numbers and more
    assert largest <= noise.edge <= 1.25 * largest  # rows and columns differ by chance, and only the largest count


def test_a_row_of_large_numbers_is_not_taken_for_a_change():
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(3)) * 0.02
    weight[17] *= 300
    errors = weight - rounded(weight, torch.float16)
    values = torch.linalg.svdvals(errors.double())
    noise = rounding_noise(rounded(weight, torch.float16), torch.float16)
    assert count_above(values, energy_of(values), noise) == 0


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("rank", [0, 1, 8, 40])
def test_the_planted_rank_rises_above_the_noise_whether_one_or_both_were_rounded(rank, times):
    draw = torch.Generator().manual_seed(rank)
    base = torch.randn(300, 400, generator=draw) * 0.03
    up, down = (torch.randn(shape, generator=draw) * 0.02 for shape in ((300, rank), (rank, 400)))
    first = rounded(base, torch.float16)
    change = rounded((base if times == 2 else first) + up @ down, torch.float16) - first
    values = torch.linalg.svdvals(change.double())
    assert count_above(values, energy_of(values), rounding_noise(first, torch.float16, 2)) == rank


def test_the_noise_of_factors_is_above_what_their_rounding_makes():
    draw = torch.Generator().manual_seed(1)
    up, down = torch.randn(300, 16, generator=draw), torch.randn(16, 200, generator=draw) * 0.01
    stored = rounded(up, torch.float16), rounded(down, torch.float16)
    errors = torch.linalg.svdvals((stored[0] @ stored[1] - up @ down).double())
    noise = noise_of_factors(*stored, torch.float16)
    assert errors[0] <= noise.edge <= 4 * errors[0]  # two bounds of norms, each reached only in the worst case
