"""Thin factors of every kind, against the dense change in fp64 and against each adapter's own `delta`."""

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.kinds.hadamard import LoHa
from clip_vae_lora.lora.kinds.kronecker import LoKr
from clip_vae_lora.lora.kinds.magnitude import IA3, DoRA, GLoRA
from clip_vae_lora.lora.kinds.orthogonal import OFT, InputOFT
from clip_vae_lora.lora.kinds.table import KINDS
from clip_vae_lora.lora.kinds.whole import Difference, Replacement
from clip_vae_lora.lora.kinds.widening import Widening
from clip_vae_lora.lora.models.places import Piece
from clip_vae_lora.lora.models.rows import RowsOf, Swapped
from clip_vae_lora.lora.workshop.thin import Thin, own_shape, thin_of, why_not_thin

DOUBLE = torch.float64


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


ADDING = {  # adapter, shape of its weight, the rank of its thin factors
    "LoRA": (LoRA(random(12, 3), random(3, 9), 2.0), (12, 9), 3),
    "LoRA in fp16": (LoRA(random(12, 3).half(), random(3, 9).half(), 2.0), (12, 9), 3),
    "convolution": (LoRA(random(12, 3, 1, 1), random(3, 9, 3, 3), 2.0), (12, 9, 3, 3), 3),
    "flat convolution": (LoRA(random(12, 3), random(3, 81), 2.0), (12, 9, 3, 3), 3),
    "Tucker": (LoRA(random(12, 3, 1, 1), random(3, 9, 1, 1), 2.0, random(3, 3, 3, 3)), (12, 9, 3, 3), 3),
    "LoHa": (LoHa(random(12, 2), random(2, 9), random(12, 2, seed=1), random(2, 9, seed=1), 3.0), (12, 9), 4),
    "LoHa of a kernel": (
        LoHa(random(12, 2), random(2, 81), random(12, 2, seed=1), random(2, 81, seed=1), 3.0),
        (12, 9, 3, 3),
        4,
    ),
    "LoHa with cores": (
        LoHa(
            random(2, 12),
            random(2, 9),
            random(2, 12, seed=1),
            random(2, 9, seed=1),
            3.0,
            random(2, 2, 3, 3),
            random(2, 2, 3, 3, seed=1),
        ),
        (12, 9, 3, 3),
        4,
    ),
    "LoKr": (LoKr(2.0, w1=random(3, 2), w2_a=random(8, 2), w2_b=random(2, 10)), (24, 20), 4),
    "LoKr, both factored": (
        LoKr(2.0, w1_a=random(6, 1), w1_b=random(1, 2), w2_a=random(8, 2), w2_b=random(2, 10)),
        (48, 20),
        2,
    ),
    "LoKr, second whole": (LoKr(2.0, w1_a=random(9, 2), w1_b=random(2, 8), w2=random(3, 4)), (27, 32), 6),
    "LoKr with a core": (
        LoKr(2.0, w1=random(3, 2), w2_a=random(2, 8), w2_b=random(2, 5), t2=random(2, 2, 3, 3)),
        (24, 10, 3, 3),
        4,
    ),
    "LoKr of a kernel": (LoKr(2.0, w1=random(2, 3), w2=random(4, 5, 3, 3)), (8, 15, 3, 3), 8),
    "full difference": (Difference(random(12, 9)), (12, 9), 9),
    "difference of a kernel": (Difference(random(12, 9, 3, 3)), (12, 9, 3, 3), 12),
    "difference of a bias": (Difference(random(12)), (12,), 1),
    "LoRA as large as its weight": (LoRA(random(12, 9), random(9, 9), 2.0), (12, 9), 9),
    "control LoRA": (Widening(LoRA(random(12, 3), random(3, 18), 2.0), (12, 18)), (12, 18), 3),
    "swapped halves": (
        Swapped(LoHa(random(12, 2), random(2, 9), random(12, 2, seed=1), random(2, 9, seed=1), 3.0)),
        (12, 9),
        4,
    ),
    "some rows": (
        RowsOf(LoKr(2.0, w1=random(3, 2), w2_a=random(8, 2), w2_b=random(2, 10)), *Piece(8, 8, 24)),
        (8, 20),
        4,
    ),
}
BASED = {  # what depends on the weight
    "GLoRA": (GLoRA(random(9, 1), random(1, 9), random(12, 1), random(1, 9), 3.0), (12, 9), 2),
    "GLoRA of a kernel": (
        GLoRA(random(9, 1, 1, 1), random(1, 9, 1, 1), random(24, 1, 1, 1), random(1, 9, 3, 3), 3.0),
        (24, 9, 3, 3),
        10,
    ),
    "DoRA": (DoRA(LoRA(random(12, 3), random(3, 9), 2.0), random(12, 1).abs()), (12, 9), 9),
    "OFT": (OFT(random(3, 4, 4)), (12, 9), 9),
    "BOFT": (OFT(random(2, 2, 4, 4) * 0.1), (8, 9), 8),
    "OFT of inputs": (InputOFT(random(3, 3) * 0.1), (12, 9), 9),
    "(IA)^3": (IA3(random(12), False), (12, 9), 9),
    "replacement": (Replacement(random(12, 9)), (12, 9), 9),
}


def test_every_kind_of_the_table_is_tried_here():
    tried = {type(adapter) for adapter, _, _ in (*ADDING.values(), *BASED.values())}
    assert {kind.adapter for kind in KINDS.values()} | {DoRA, Widening} <= tried


@pytest.mark.parametrize("name", ADDING)
def test_the_factors_multiply_to_the_change_of_the_adapter(name):
    adapter, shape, rank = ADDING[name]
    found = thin_of(adapter, shape)
    assert (found.rank, found.shape, found.up.dtype) == (rank, shape, torch.float32)
    torch.testing.assert_close(found.change(), adapter.delta(shape), rtol=1e-5, atol=2e-5)  # two orders of fp32 sums


@pytest.mark.parametrize("name", ADDING)
def test_a_shape_that_is_not_given_is_told_by_the_tensors(name):
    adapter, shape, _ = ADDING[name]
    flat = name in ("flat convolution", "LoHa of a kernel")
    expected = (shape[0], shape[1] * shape[2] * shape[3]) if flat else shape
    assert own_shape(adapter) == thin_of(adapter).shape == expected


@pytest.mark.parametrize("name", BASED)
def test_what_depends_on_the_weight_is_refused_by_name_without_it_and_exact_with_it(name):
    adapter, shape, rank = BASED[name]
    weight = random(*shape, seed=9)
    assert adapter.kind in (why_not_thin(adapter) or "")
    with pytest.raises(LoRAError, match="connect the model"):
        thin_of(adapter, shape)
    found = thin_of(adapter, weight=weight)
    assert found.rank == rank
    torch.testing.assert_close(found.change(), adapter.delta(weight), rtol=1e-5, atol=2e-5)


def test_loha_is_the_elementwise_product_in_fp64():
    a1, b1, a2, b2 = (random(*shape, seed=n).to(DOUBLE) for n, shape in enumerate(((12, 2), (2, 9), (12, 2), (2, 9))))
    found = thin_of(LoHa(a1, b1, a2, b2, 3.0), (12, 9), dtype=DOUBLE)
    torch.testing.assert_close(found.change(), (a1 @ b1) * (a2 @ b2) * 1.5, rtol=1e-13, atol=1e-13)


def test_lokr_is_the_kronecker_product_in_fp64():
    w1, a, b = (random(*shape).to(DOUBLE) for shape in ((3, 2), (8, 2), (2, 10)))
    found = thin_of(LoKr(2.0, w1=w1, w2_a=a, w2_b=b), (24, 20), dtype=DOUBLE)
    torch.testing.assert_close(found.change(), torch.kron(w1, a @ b), rtol=1e-13, atol=1e-13)


def test_only_what_is_as_large_as_the_change_is_dense_and_its_factors_are_counted_once():
    dense = {name for name, (adapter, shape, _) in ADDING.items() if thin_of(adapter, shape).dense}
    assert dense == {
        "full difference",
        "difference of a kernel",
        "LoRA as large as its weight",
        "LoKr of a kernel",
    }
    assert thin_of(Difference(random(12, 9))).numbers == 108


def test_a_strength_may_be_negative_and_stays_exact():
    for name in ("LoRA", "full difference"):
        adapter, shape, _ = ADDING[name]
        found = thin_of(adapter, shape, dtype=DOUBLE)
        torch.testing.assert_close(found.times(-0.7).change(), found.change() * -0.7, rtol=1e-14, atol=0)


def test_a_weight_that_the_adapter_does_not_fit_is_said():
    with pytest.raises(LoRAError, match="shape"):
        thin_of(ADDING["LoRA"][0], (12, 8))
    with pytest.raises(LoRAError, match="do not tell"):
        own_shape(BASED["OFT"][0])
    with pytest.raises(LoRAError, match="ranks differ"):
        Thin(random(4, 2), random(3, 5), (4, 5))
    with pytest.raises(LoRAError, match="matrix"):
        Thin(random(4, 2), random(2, 5), (4, 6))
