"""Algebra on thin factors, against the dense matrices that it never makes."""

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.kinds.kronecker import LoKr
from clip_vae_lora.lora.kinds.whole import Difference, Replacement
from clip_vae_lora.lora.weights.low_rank import (
    change_norm,
    frobenius,
    join_factors,
    norm,
    singular_values,
)


def lora(out=12, inner=9, rank=3, alpha=2.0, seed=0, kernel=()):
    g = torch.Generator().manual_seed(seed)
    return LoRA(torch.randn(out, rank, generator=g), torch.randn(rank, inner, *kernel, generator=g), alpha)


def tucker():
    g = torch.Generator().manual_seed(3)
    return LoRA(
        torch.randn(12, 2, 1, 1, generator=g),
        torch.randn(2, 9, 1, 1, generator=g),
        1.0,
        torch.randn(2, 2, 3, 3, generator=g),
    )


def test_the_stack_of_several_is_their_sum_at_their_strengths():
    several, strengths = [lora(seed=n, rank=n + 1, alpha=n + 0.5) for n in range(4)], [1.0, -0.3, 0.0, 2.0]
    up, down = join_factors(several, strengths)
    assert (up.shape, down.shape) == ((12, 10), (10, 9))
    dense = sum(a.delta((12, 9), s) for a, s in zip(several, strengths))
    torch.testing.assert_close(up @ down, dense, rtol=1e-5, atol=1e-5)


def test_convolutions_and_middle_tensors_are_stacked_too():
    one, two = lora(kernel=(3, 3)), tucker()
    up, down = join_factors([one, two], [0.5, 2.0])
    dense = one.delta((12, 9, 3, 3), 0.5) + two.delta((12, 9, 3, 3), 2.0)
    torch.testing.assert_close((up @ down).reshape(12, 9, 3, 3), dense, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "loras, strengths, message",
    [
        ([], [], "one for each"),
        ([lora()], [1.0, 2.0], "one for each"),
        ([lora(), lora(out=5)], [1.0, 1.0], "different"),
    ],
)
def test_what_cannot_be_stacked_is_said(loras, strengths, message):
    with pytest.raises(LoRAError, match=message):
        join_factors(loras, strengths)


@pytest.mark.parametrize("adapter", [lora(), lora(rank=20), lora(kernel=(3, 3)), tucker()])
def test_norm_and_singular_values_are_those_of_the_product(adapter):
    up, down = adapter.factors(0.7)
    dense = (up @ down).double()
    assert norm(up, down) == pytest.approx(float(dense.norm()), rel=1e-5)
    values, expected = singular_values(up, down), torch.linalg.svdvals(dense)
    torch.testing.assert_close(values.double(), expected[: len(values)], rtol=1e-4, atol=1e-4)
    assert len(values) == min(up.shape[0], up.shape[1], down.shape[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_the_norm_of_a_tensor_of_many_numbers_is_that_of_double_precision(dtype):
    weight = torch.randn(1100, 700, generator=torch.Generator().manual_seed(0)).to(dtype)  # three pieces
    assert frobenius(weight) == pytest.approx(float(weight.double().norm()), rel=1e-5)  # fp32 sums of 2^18 squares
    assert frobenius(weight.t()) == pytest.approx(frobenius(weight), rel=1e-5) and frobenius(torch.empty(0)) == 0


def test_the_size_of_a_change_is_known_without_it_for_three_kinds():
    g = torch.Generator().manual_seed(5)
    lokr = LoKr(
        3.0, w1=torch.randn(2, 3, generator=g), w2_a=torch.randn(4, 2, generator=g), w2_b=torch.randn(2, 5, generator=g)
    )
    for adapter, shape in (
        (lora(), (12, 9)),
        (tucker(), (12, 9, 3, 3)),
        (lokr, (8, 15)),
        (Difference(torch.randn(7, generator=g)), (7,)),
    ):
        assert change_norm(adapter) == pytest.approx(float(adapter.delta(shape).norm()), rel=1e-5)
    assert change_norm(Replacement(torch.ones(3))) is None


def test_a_change_of_zeros_has_norm_0():
    assert norm(torch.zeros(4, 2), torch.ones(2, 3)) == 0
