"""A merge cut by a rule: the best of its rank, within its share or its file size, with the loss said."""

import math

import pytest
import torch

from clip_vae_lora.lora.formats.writing import bytes_of_file
from clip_vae_lora.lora.kinds.adapters import LoRAError
from clip_vae_lora.lora.workshop.gathering import gather
from clip_vae_lora.lora.workshop.merging.merge import merge
from clip_vae_lora.lora.workshop.merging.methods import Recipe
from clip_vae_lora.lora.workshop.ranks import ENERGY, RANK, SIZE, Rule
from clip_vae_lora.lora.workshop.resizing import speller

from ...support.loras.shop import QUERY, dense, plain, relative, stack, written


@pytest.mark.parametrize("rank", [1, 6, 11, 500])
def test_a_cut_is_the_best_of_its_rank_and_its_error_is_said(rank):
    sources = [plain(4, 0, strength_model=0.7), plain(7, 10, strength_model=-0.4)]
    merged = merge(gather(sources), rule=Rule(RANK, rank))
    found, expected = dense(written(merged)), stack(sources)
    for layer in merged.layers:
        u, s, vt = torch.linalg.svd(expected[layer.place].flatten(1), full_matrices=False)
        lost = s[rank:].norm().item() / s.norm().item()
        assert layer.error == pytest.approx(lost, abs=1e-6)
        best = (u[:, :rank] * s[:rank] @ vt[:rank]).reshape(expected[layer.place].shape)
        assert relative(found[layer.place], best) < 2e-6
        assert layer.rank == min(rank, 11)
    total = math.sqrt(sum(c.square().sum() for c in expected.values()))
    gone = math.sqrt(sum((found[k] - c).square().sum() for k, c in expected.items()))
    assert merged.error == pytest.approx(gone / total, abs=1e-6) and merged.from_stack == pytest.approx(merged.error)


@pytest.mark.parametrize("rank", [0, -3, math.nan, 2.5])
def test_a_rank_that_is_none_is_refused(rank):
    with pytest.raises(LoRAError, match="rank"):
        merge(gather([plain(2, 0)]), rule=Rule(RANK, rank))


def test_a_share_of_the_energy_keeps_the_smallest_rank_that_has_it():
    sources = [plain(4, 0, strength_model=3.0), plain(7, 10, strength_model=0.3)]
    merged = merge(gather(sources), rule=Rule(ENERGY, 0.99))
    for layer in merged.layers:
        s = torch.linalg.svdvals(stack(sources)[layer.place].flatten(1))
        reached = (s.square().cumsum(0) / s.square().sum()).tolist()
        assert layer.rank == next(n for n, share in enumerate(reached, 1) if share >= 0.99)
        assert layer.error**2 <= 0.01


def test_a_file_size_is_spent_where_it_saves_the_most():
    sources = [plain(8, 0, strength_model=3.0), plain(8, 10, places=(QUERY,))]
    whole = merge(gather(sources))
    numbers = sum(adapter.up.numel() + adapter.down.numel() for adapter in whole.adapters.values())
    budget = numbers * 4 * 0.5 / 1e6
    gathered = gather(sources)
    spell = speller(gathered, "kohya", {})
    found = merge(gathered, rule=Rule(SIZE, budget), spell=spell)
    assert 0.99 * budget * 1e6 < bytes_of_file(*spell(found.adapters)) <= budget * 1e6
    kept = sum(adapter.up.numel() + adapter.down.numel() for adapter in found.adapters.values()) * 4
    fixed = max(
        (merge(gather(sources), rule=Rule(RANK, rank)) for rank in range(1, 8)),
        key=lambda one: (_bytes(one) <= kept, _bytes(one)),
    )
    assert found.error <= fixed.error
    with pytest.raises(LoRAError, match="is too small"):
        merge(gathered, rule=Rule(SIZE, 0.0001), spell=spell)
    with pytest.raises(LoRAError, match="needs to know what the adapters take"):
        merge(gathered, rule=Rule(SIZE, budget))


def _bytes(merged):
    return sum(adapter.up.numel() + adapter.down.numel() for adapter in merged.adapters.values()) * 4


@pytest.mark.parametrize("method", ["ties", "dare", "dare_ties", "della"])
def test_what_is_dense_by_its_method_is_kept_to_the_sum_of_the_ranks_and_the_loss_is_said(method):
    sources = [plain(4, 0, places=(QUERY,)), plain(7, 10, places=(QUERY,))]
    merged = merge(gather(sources), Recipe(method, density=0.5, aligned=False))
    (layer,) = merged.layers
    assert (layer.rank, layer.exact) == (11, 320) and 0.1 < layer.error < 0.9
    aligned = merge(gather(sources), Recipe(method, density=0.5))
    assert aligned.layers[0].rank == 11 and aligned.error < 1e-6
