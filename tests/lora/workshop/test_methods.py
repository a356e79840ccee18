"""Each way to put changes together, against its published formula on dense matrices in fp64."""

import math

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.workshop.merging.methods import (
    METHODS,
    Recipe,
    align,
    chances,
    combine,
    elect,
    slerp_shares,
    trim,
)
from clip_vae_lora.lora.workshop.thin import thin_of

DOUBLE = torch.float64
OUT, IN = 60, 44


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def lora(rank, seed, out=OUT, inside=IN, dtype=DOUBLE):
    return thin_of(LoRA(random(out, rank, seed=seed), random(rank, inside, seed=seed + 50), float(rank)), dtype=dtype)


def dense(thin):
    return thin.up.double() @ thin.down.double()


def relative(one, other):
    return ((one - other).norm() / other.norm()).item()


SEVERAL = [lora(3, 1), lora(5, 2), lora(4, 3)]
STRENGTHS = [0.7, -0.4, 1.3]


def dense_ties(tasks, density):
    """TIES as its authors write it, on whole matrices, with strengths multiplied in."""
    kept = []
    for task in tasks:
        least = task.abs().flatten().sort(descending=True).values[int(density * task.numel()) - 1]
        kept.append(torch.where(task.abs() >= least, task, torch.zeros_like(task)))
    total = sum(kept)
    sign = torch.where(total >= 0, 1.0, -1.0)
    agreeing = [torch.where(task.sign() == sign, task, torch.zeros_like(task)) for task in kept]
    count = sum((task != 0).to(DOUBLE) for task in agreeing)
    return sum(agreeing) / count.clamp_min(1)


def dense_knots(tasks, density):
    """KnOTS as its authors write it: one dense matrix of all changes side by side, its SVD, TIES on S V_i."""
    u, s, vt = torch.linalg.svd(torch.cat(tasks, 1), full_matrices=False)
    rank = int((s > s[0] * 1e-10).sum())
    parts = (s[:rank, None] * vt[:rank]).split(tasks[0].shape[1], 1)
    return u[:, :rank] @ dense_ties(parts, density)


@pytest.mark.parametrize("density", [0.2, 0.5, 0.7, 1.0])
def test_knots_ties_in_factors_is_the_dense_algorithm_and_has_the_rank_of_all(density):
    found = combine(SEVERAL, STRENGTHS, Recipe("ties", density=density))
    tasks = [dense(thin) * strength for thin, strength in zip(SEVERAL, STRENGTHS)]
    assert found.rank == 12 and not found.dense
    assert relative(dense(found), dense_knots(tasks, density)) < 1e-5


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (DOUBLE, 1e-11)])
def test_knots_in_factors_of_large_layers_is_the_dense_algorithm(dtype, tolerance):
    several = [lora(8, n, 640, 512, DOUBLE) for n in range(3)]
    found = combine([one.to(dtype) for one in several], [1.0, 0.8, -0.6], Recipe("ties", density=0.3))
    tasks = [dense(one.to(dtype)) * s for one, s in zip(several, [1.0, 0.8, -0.6])]
    assert relative(dense(found), dense_knots(tasks, 0.3)) < tolerance  # fp32 factors are rounded at the end


def test_the_aligned_parts_are_the_changes_again():
    common, own = align(SEVERAL)
    torch.testing.assert_close(common.mT @ common, torch.eye(12, dtype=DOUBLE), rtol=0, atol=1e-12)
    for part, thin in zip(own, SEVERAL):
        torch.testing.assert_close(common @ part, dense(thin), rtol=0, atol=1e-11)


@pytest.mark.parametrize("density", [0.2, 0.7])
def test_ties_on_the_weights_is_the_published_one_and_of_full_rank(density):
    found = combine(SEVERAL, STRENGTHS, Recipe("ties", density=density, aligned=False))
    tasks = [dense(thin) * strength for thin, strength in zip(SEVERAL, STRENGTHS)]
    assert found.dense and relative(dense(found), dense_ties(tasks, density)) < 1e-12


def test_two_that_agree_are_averaged_and_two_that_do_not_meet_keep_their_strength():
    one, two = torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[3.0, 2.0, -1.0]])
    assert elect([one, two]).tolist() == [[2.0, 2.0, 3.0]]
    assert trim(torch.tensor([[1.0, -5.0, 3.0, 0.5]]), 0.5).tolist() == [[0, -5, 3, 0]]


@pytest.mark.parametrize("aligned", [True, False])
def test_dare_keeps_that_share_of_the_entries_and_the_mean_of_many_is_the_sum(aligned):
    expected = sum(dense(thin) * strength for thin, strength in zip(SEVERAL, STRENGTHS))
    runs = [
        dense(combine(SEVERAL, STRENGTHS, Recipe("dare", density=0.5, aligned=aligned, seed=seed)))
        for seed in range(400)
    ]
    # one run is about as far from the sum as the sum is long; the mean of 400 is a twentieth of that
    assert 0.3 < relative(runs[0], expected) < 1.5
    assert relative(torch.stack(runs).mean(0), expected) < 0.1
    again = combine(SEVERAL, STRENGTHS, Recipe("dare", density=0.5, aligned=aligned, seed=0))
    assert torch.equal(dense(again), runs[0])
    other = combine(SEVERAL, STRENGTHS, Recipe("dare", density=0.5, aligned=aligned, seed=0), "another weight")
    assert not torch.equal(dense(other), runs[0])


def test_dare_at_density_1_is_the_sum_and_one_alone_is_itself_by_every_method():
    expected = sum(dense(thin) * strength for thin, strength in zip(SEVERAL, STRENGTHS))
    assert relative(dense(combine(SEVERAL, STRENGTHS, Recipe("dare", density=1.0))), expected) < 1e-12
    for method in set(METHODS) - {"slerp"}:
        alone = combine([SEVERAL[0], None], [0.6, 0.4], Recipe(method, density=1.0))
        share = 0.6
        assert relative(dense(alone), dense(SEVERAL[0]) * share) < 1e-12, method


def test_dellas_chances_grow_with_the_magnitude_in_each_row_around_the_density():
    task = random(8, 50)
    found = chances(task, 0.6, 0.4)
    torch.testing.assert_close(found.mean(1), torch.full((8,), 0.6, dtype=DOUBLE), rtol=0, atol=1e-12)
    assert found.min() == pytest.approx(0.404) and found.max() == pytest.approx(0.796)
    order = task.abs().argsort(1)
    assert (found.gather(1, order).diff(dim=1) > 0).all()
    assert chances(task, 0.9, 1.0).max() <= 1 and chances(task, 0.1, 1.0).min() >= 0


def test_della_drops_by_chance_and_elects_signs():
    tasks = [dense(thin) for thin in SEVERAL]
    runs = [
        dense(combine([SEVERAL[0]], [1.0], Recipe("della", density=0.5, spread=0.4, aligned=False, seed=seed)))
        for seed in range(400)
    ]
    assert relative(torch.stack(runs).mean(0), tasks[0]) < 0.15  # its expected value is the change itself
    kept = torch.stack([run != 0 for run in runs]).double().mean(0)
    torch.testing.assert_close(kept.mean(), torch.tensor(0.5, dtype=DOUBLE), rtol=0, atol=0.01)
    large = kept[tasks[0].abs() > tasks[0].abs().quantile(0.95)].mean()
    assert large > 0.65


@pytest.mark.parametrize("position", [0.0, 0.25, 0.5, 1.0])
def test_slerp_stays_on_the_arc_between_the_two(position):
    one, two = SEVERAL[0], SEVERAL[1]
    a, b = dense(one), dense(two)
    angle = math.acos(((a * b).sum() / (a.norm() * b.norm())).item())
    expected = (math.sin((1 - position) * angle) * a + math.sin(position * angle) * b) / math.sin(angle)
    assert relative(dense(combine([one, two], [1.0, 1.0], Recipe("slerp", position=position))), expected) < 1e-11


def test_slerp_keeps_the_norm_of_two_of_one_norm_where_their_mean_is_smaller():
    one, two = SEVERAL[0], SEVERAL[1]
    scale = (dense(one).norm() / dense(two).norm()).item()
    found = combine([one, two], [1.0, scale], Recipe("slerp"))
    mean = combine([one, two], [1.0, scale], Recipe("average"))
    assert dense(found).norm().item() == pytest.approx(dense(one).norm().item(), rel=1e-9)
    assert dense(mean).norm() < 0.8 * dense(one).norm()


def test_slerp_between_parallel_or_opposite_changes_is_the_line():
    assert slerp_shares(SEVERAL[0], SEVERAL[0].times(2.0), 0.3) == (0.7, 0.3)
    assert slerp_shares(SEVERAL[0], SEVERAL[0].times(-1.0), 0.3) == (0.7, 0.3)
    assert (
        relative(dense(combine([SEVERAL[0], None], [1.0, 1.0], Recipe("slerp", position=0.3))), dense(SEVERAL[0]) * 0.7)
        < 1e-12
    )
    assert combine([SEVERAL[0], None], [1.0, 1.0], Recipe("slerp", position=1.0)) is None


def test_an_average_is_of_the_changes_and_not_of_the_factors():
    run = [lora(3, seed) for seed in (1, 2, 3)]
    found = combine(run, [1.0, 1.0, 2.0], Recipe("average"))
    expected = (dense(run[0]) + dense(run[1]) + 2 * dense(run[2])) / 4
    assert relative(dense(found), expected) < 1e-12
    shares = [0.25, 0.25, 0.5]
    up, down = (sum(getattr(one, name) * w for one, w in zip(run, shares)) for name in ("up", "down"))
    assert relative(up @ down, expected) > 0.5  # what an average of the factors would be


def test_the_second_of_an_orthogonal_sum_has_lost_the_outputs_of_the_first():
    one, two = SEVERAL[0], SEVERAL[1]
    found = dense(combine([one, two], [0.7, 1.2], Recipe("orthogonal")))
    basis = torch.linalg.qr(one.up).Q
    expected = 0.7 * dense(one) + 1.2 * (dense(two) - basis @ (basis.mT @ dense(two)))
    assert relative(found, expected) < 1e-11
    alone = dense(combine([one, two], [0.0, 1.0], Recipe("orthogonal")))
    assert (basis.mT @ alone).norm() / alone.norm() < 1e-12


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Recipe("mean"), "the method is 'mean'"),
        (lambda: Recipe("ties", density=0), "the density is 0"),
        (lambda: Recipe("ties", density=math.nan), "the density is nan"),
        (lambda: Recipe("della", spread=2), "the spread is 2"),
        (lambda: Recipe("slerp", position=1.5), "the position is 1.5"),
        (lambda: combine(SEVERAL, STRENGTHS, Recipe("slerp")), "here are 3"),
        (lambda: combine(SEVERAL[:2], [1.0, -1.0], Recipe("average")), "add up to 0"),
    ],
)
def test_what_no_method_can_do_is_said(make, message):
    with pytest.raises(LoRAError, match=message):
        make()
