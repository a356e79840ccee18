"""Products, sums and singular values of changes, against dense matrices in fp64."""

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.kinds.whole import Difference
from clip_vae_lora.lora.workshop.algebra import add, gram, inner, norm_of, overlap, spectrum_of
from clip_vae_lora.lora.workshop.thin import thin_of

CLOSE = {"rtol": 1e-11, "atol": 1e-11}  # fp64 sums of some hundred products, in two orders


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lora(rank=3, alpha=2.0, seed=0, out=40, inside=30):
    return thin_of(LoRA(random(out, rank, seed=seed), random(rank, inside, seed=seed + 50), alpha))


def full(seed=7):
    return thin_of(Difference(random(40, 30, seed=seed)))


THREE = [lora(3, seed=1), lora(5, seed=2, alpha=1.0), full()]


def dense(thin):
    return (thin.up.double() @ thin.down.double()).reshape(thin.shape)


def test_inner_products_and_norms_are_those_of_the_dense_changes():
    found = gram(THREE)
    expected = [[(dense(a) * dense(b)).sum() for b in THREE] for a in THREE]
    torch.testing.assert_close(found, torch.tensor(expected), **CLOSE)
    for one in THREE:
        assert norm_of(one) == pytest.approx(dense(one).norm().item(), rel=1e-6)  # frobenius of a dense one is in fp32
    assert inner(THREE[0], THREE[1]) == pytest.approx(inner(THREE[1], THREE[0]), rel=1e-12)


@pytest.mark.parametrize("strengths", [(0.7, 0.4, 1.0), (-0.5, 2.0, 0.0)])
@pytest.mark.parametrize("count", [2, 3])
def test_a_sum_is_the_sum_of_the_dense_changes_at_their_strengths(strengths, count):
    several = [one.to(torch.float64) for one in THREE[:count]]
    found = add(several, strengths[:count])
    expected = sum(dense(one) * strength for one, strength in zip(several, strengths))
    torch.testing.assert_close(found.change(), expected, **CLOSE)
    assert found.rank == (8 if count == 2 else 30) and found.dense == (count == 3)


def test_a_sum_of_kernels_and_flat_kernels_has_the_kernels_shape():
    one = thin_of(LoRA(random(8, 2), random(2, 36), 2.0))
    two = thin_of(LoRA(random(8, 2, 1, 1, seed=1), random(2, 4, 3, 3, seed=1), 2.0))
    assert add([one, two], [1.0, 1.0]).shape == (8, 4, 3, 3)


@pytest.mark.parametrize("one", THREE, ids=["rank 3", "rank 5", "dense"])
def test_the_singular_values_are_those_of_the_dense_change(one):
    found, expected = spectrum_of(one), torch.linalg.svdvals(dense(one))
    torch.testing.assert_close(found.s, expected[: len(found.s)], **CLOSE)
    torch.testing.assert_close(found.u * found.s @ found.vt, dense(one), **CLOSE)
    assert found.energy == pytest.approx(dense(one).square().sum().item(), rel=1e-12)
    assert found.effective_rank() == min(one.rank, 30)


@pytest.mark.parametrize("rank", [1, 4, 6])
def test_a_cut_is_the_best_of_its_rank_and_says_what_it_lost(rank):
    total = add([one.to(torch.float64) for one in THREE[:2]], [0.7, -1.3])
    found = spectrum_of(total)
    u, s, vt = torch.linalg.svd(dense(total), full_matrices=False)
    best = u[:, :rank] * s[:rank] @ vt[:rank]
    cut = found.cut(rank, torch.float64)
    torch.testing.assert_close(cut.change(), best, **CLOSE)
    lost = (dense(total) - best).norm() / dense(total).norm()
    assert found.lost(rank) == pytest.approx(lost.item(), rel=1e-9)
    torch.testing.assert_close(cut.up.norm(), cut.down.norm(), **CLOSE)  # fp16 holds both best when they are alike


def test_nothing_is_lost_by_a_rank_that_is_enough_and_rank_0_is_refused():
    found = spectrum_of(THREE[0])
    assert found.lost(3) == 0 and found.cut(99).rank == 3 and found.lost(0) == 1
    with pytest.raises(LoRAError, match="rank is 0"):
        found.cut(0)


def test_overlap_is_1_of_a_change_with_itself_and_near_chance_of_strangers():
    assert overlap(THREE[0], THREE[0])[0] == pytest.approx(1)
    shared, chance = zip(*(overlap(lora(4, seed=n, out=400), lora(4, seed=n + 9, out=400)) for n in range(20)))
    assert chance[0] == 4 / 400
    assert sum(shared) / 20 == pytest.approx(chance[0], rel=0.3)  # the mean of 20 has a deviation of 8 % about it
    one = thin_of(LoRA(torch.eye(40)[:, :2], random(2, 30), 2.0))
    two = thin_of(LoRA(torch.eye(40)[:, 1:3], random(2, 30, seed=3), 2.0))
    assert overlap(one, two)[0] == pytest.approx(0.5) and overlap(one, one, of_inputs=True)[0] == pytest.approx(1)


def test_a_change_of_nothing_has_no_directions():
    nothing = thin_of(LoRA(torch.zeros(40, 2), random(2, 30), 2.0))
    assert overlap(nothing, THREE[0]) == (0.0, 0.0) and norm_of(nothing) == 0 and spectrum_of(nothing).lost(1) == 0


def test_changes_of_different_weights_are_not_put_together():
    with pytest.raises(LoRAError, match="different weights"):
        add([lora(), lora(out=41)], [1.0, 1.0])
    with pytest.raises(LoRAError, match="different weights"):
        inner(lora(), lora(inside=31))
    with pytest.raises(LoRAError, match="one for each"):
        add([lora()], [1.0, 2.0])
