"""Several changes written into one weight at once equal their sum, whatever the weight is stored as."""

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.kinds.whole import Difference, Replacement
from clip_vae_lora.lora.weights import fusing
from clip_vae_lora.lora.weights.fusing import Change, apply, apply_

FP32 = 1e-6  # relative; a product of side by side factors rounds otherwise than the sum of products


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loras(out=6, inner=5, kernel=()):
    return [
        Change(LoRA(random(out, rank, seed=rank), random(rank, inner, *kernel, seed=9 + rank), 1.5), strength)
        for rank, strength in ((1, 0.5), (2, -1.0), (4, 2.0))
    ]


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3, 3)])
def test_fused_loras_are_the_sum_of_their_changes(shape):
    weight, changes = random(*shape, seed=3), loras(kernel=shape[2:])
    expected = weight + sum(change.adapter.delta(shape, change.strength) for change in changes)
    given = weight.clone()
    assert apply_(given, changes) is given
    assert (given - expected).abs().max() <= FP32 * expected.abs().max()


def test_a_common_strength_multiplies_every_own_one():
    weight, changes = random(6, 5), loras()
    doubled = [Change(adapter, 2 * strength) for adapter, strength in changes]
    assert torch.allclose(apply_(weight.clone(), changes, 2.0), apply_(weight.clone(), doubled), rtol=1e-6)


def test_rows_of_a_weight_are_changed_in_place_and_no_others():
    weight = random(18, 5)
    given = weight.clone()
    apply_(given.narrow(0, 6, 6), loras())
    assert not torch.equal(given[6:12], weight[6:12])
    assert torch.equal(given[:6], weight[:6]) and torch.equal(given[12:], weight[12:])


def test_a_weight_whose_memory_lies_otherwise_is_changed_all_the_same():
    weight = random(6, 5, 3, 3)
    turned = weight.clone().to(memory_format=torch.channels_last)
    plain = apply_(weight.clone(), loras(kernel=(3, 3)))
    assert torch.allclose(apply_(turned, loras(kernel=(3, 3))), plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tile", [5, 12, 2**20])  # one row at a time, some, all
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_weight_of_any_type_is_rounded_once_and_a_new_one_is_the_same(monkeypatch, dtype, tile):
    monkeypatch.setattr(fusing, "_TILE", tile)
    weight = random(6, 5).to(dtype)
    expected = apply_(weight.to(torch.float32, copy=True), loras()).to(dtype)
    # a product by rows may add in another order: a bit of fp32, which can turn the rounding of the last bit
    near = {"rtol": 1e-5 if dtype.itemsize > 2 else 2 * torch.finfo(dtype).eps, "atol": 1e-5}
    assert torch.allclose(apply_(weight.clone(), loras()), expected, **near)
    kept = weight.clone()
    assert torch.allclose(apply(weight, loras()), expected, **near) and torch.equal(weight, kept)


def test_a_new_weight_has_the_other_kinds_too_and_the_old_one_stays():
    weight, changes = random(6, 5), [*loras(), Change(Replacement(torch.zeros(6, 5)), 0.5)]
    kept = weight.clone()
    assert torch.equal(apply(weight, changes), apply_(weight.clone(), changes)) and torch.equal(weight, kept)


def test_an_adapter_whose_matrix_would_only_fit_by_chance_is_refused():
    flat = Change(LoRA(random(6, 1), random(1, 45), 1.0), 1.0)
    other = Change(LoRA(random(6, 1), random(1, 9, 1, 5), 1.0), 1.0)
    assert apply_(random(6, 5, 3, 3), [flat]).shape == (6, 5, 3, 3)
    with pytest.raises(LoRAError, match="shape"):
        apply_(random(6, 5, 3, 3), [other])


def test_other_kinds_follow_the_loras_and_see_what_came_before():
    weight, lora, halfway = random(6, 5), loras()[0], Change(Replacement(torch.zeros(6, 5)), 0.5)
    expected = (weight + lora.adapter.delta((6, 5), lora.strength)) * 0.5
    assert torch.allclose(apply_(weight.clone(), [halfway, lora]), expected, rtol=1e-6)


def test_an_adapter_of_another_size_is_refused():
    with pytest.raises(LoRAError, match=r"\[7, 5\]"):
        apply_(random(6, 5), [Change(Difference(random(7, 5)), 1.0)])
