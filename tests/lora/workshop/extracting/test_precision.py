"""The rank that stands out of the rounding, whatever type the numbers are stored in and had before."""

import pytest
import torch

from clip_vae_lora.lora.workshop.gathering import gather
from clip_vae_lora.lora.workshop.merging.merge import merge
from clip_vae_lora.lora.workshop.noise import precision_of
from clip_vae_lora.lora.workshop.outcome import precision_at
from clip_vae_lora.lora.workshop.ranks import Rule
from clip_vae_lora.lora.workshop.resizing import resize

from ....support.loras.shop import QUERY as PLACE
from ....support.loras.shop import SD1, lora_of, random, source_of
from .test_extraction import KEY, QUERY, base_weights, planted, run

BOTH = (QUERY, KEY)
HALF, BFLOAT, FULL = torch.float16, torch.bfloat16, torch.float32


def through(weights, dtype):
    """The weights in fp32, after they were saved in a type."""
    return {key: weight.to(dtype).float() for key, weight in weights.items()}


@pytest.mark.parametrize("rank", [1, 8, 40])
@pytest.mark.parametrize("size", [0.05, 1e-3, 3e-6])
@pytest.mark.parametrize("before", [FULL, HALF], ids=["fp32 from fp32", "fp32 from fp16"])
def test_the_planted_rank_of_models_in_fp32_is_found_from_the_largest_change_to_the_smallest(before, size, rank):
    base = through(base_weights(BOTH, FULL), before)
    extracted, _, _ = run(base, planted(base, rank, size=size, keys=BOTH), Rule("automatic", most=128))
    assert {layer.place: layer.rank for layer in extracted.layers} == dict.fromkeys(BOTH, rank)


@pytest.mark.parametrize("rank", [1, 8, 40])
@pytest.mark.parametrize("before", [HALF, BFLOAT], ids=["fp16", "bf16"])
def test_models_in_fp32_that_were_saved_in_16_bits_give_the_rank_that_those_files_give(before, rank):
    base = through(base_weights(BOTH, FULL), before)
    tuned = through(planted(base, rank, size=0.05, keys=BOTH), before)
    extracted, _, _ = run(base, tuned, Rule("automatic", most=128))
    assert {layer.place: layer.rank for layer in extracted.layers} == dict.fromkeys(BOTH, rank)
    small = [{key: weight.to(before) for key, weight in weights.items()} for weights in (base, tuned)]
    alike, _, _ = run(*small, Rule("automatic", most=128))
    assert alike.layers == extracted.layers


@pytest.mark.parametrize("dtypes", [(FULL, HALF), (HALF, FULL)], ids=["base fp32", "tuned fp32"])
def test_a_model_in_fp32_beside_one_in_fp16_is_rounded_once(dtypes):
    whole = base_weights(BOTH, FULL)
    base = {key: weight.to(dtypes[0]) for key, weight in whole.items()}
    tuned = planted(whole, 8, size=0.05, dtype=dtypes[1], keys=BOTH)
    extracted, _, _ = run(base, tuned, Rule("automatic", most=128))
    assert {layer.place: layer.rank for layer in extracted.layers} == dict.fromkeys(BOTH, 8)


@pytest.mark.parametrize("stored", [FULL, HALF, BFLOAT])
@pytest.mark.parametrize("before", [FULL, HALF, BFLOAT])
def test_numbers_tell_the_coarsest_type_that_they_went_through(before, stored):
    weight = random(40, 50).to(before).to(stored)
    coarse = {FULL: 0, HALF: 1, BFLOAT: 2}
    expected = max((before, stored), key=coarse.__getitem__)
    assert precision_of(weight, stored) == expected


@pytest.mark.parametrize(
    "weight", [torch.zeros(40, 50), torch.eye(40), torch.tensor([[0.5, 3.0]])], ids=["0", "1", "2"]
)
def test_zeros_and_few_numbers_tell_nothing(weight):
    assert precision_of(weight, FULL) == FULL


def test_a_lora_in_fp32_that_was_saved_in_fp16_is_cut_to_what_is_above_the_rounding_of_fp16():
    """Its factors have rank 12, and that of 8 of them is nothing but the rounding of the product they were cut from."""
    lora = lora_of(SD1[PLACE], 12)
    faint = torch.ones(12)
    faint[4:] = 1e-4
    weak = type(lora)((lora.up * faint).half().float(), lora.down.half().float(), lora.alpha)
    gathered = gather([source_of({PLACE: weak})])
    assert precision_at(gathered, PLACE) == HALF
    assert [layer.rank for layer in resize(gathered, Rule("automatic")).layers] == [4]
    assert [layer.rank for layer in merge(gathered, rule=Rule("automatic")).layers] == [4]
    exact = gather([source_of({PLACE: type(lora)(lora.up * faint, lora.down, lora.alpha)})])
    assert [layer.rank for layer in resize(exact, Rule("automatic")).layers] == [12]
