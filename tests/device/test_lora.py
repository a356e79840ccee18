"""LoRAs onto weights of a pretended card: no tensors of two devices meet, nothing is waited for, few kernels start."""

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRA, put_together, send, take_apart
from clip_vae_lora.lora.kinds.hadamard import LoHa
from clip_vae_lora.lora.kinds.kronecker import LoKr
from clip_vae_lora.lora.kinds.magnitude import IA3, DoRA, GLoRA
from clip_vae_lora.lora.kinds.orthogonal import OFT, InputOFT
from clip_vae_lora.lora.kinds.whole import Difference, Replacement
from clip_vae_lora.lora.models.rows import Swapped
from clip_vae_lora.lora.weights.fusing import Change, apply, apply_, fuse, write
from clip_vae_lora.lora.weights.measuring import Stored, exact_norms, sample_sizes

from ..support.cards.pretended_card import pretend_cuda

OUT, INNER, RANK = 64, 48, 4
STOCK_KERNELS = 5  # ComfyUI's LoRAAdapter for one LoRA: two factors sent, multiplied, scaled, added (tests/host counts)


def r(*shape):
    return torch.randn(*shape)


def lora(dtype=torch.float32, kernel=()):
    return LoRA(r(OUT, RANK).to(dtype), r(RANK, INNER, *kernel).to(dtype), 2.0)


KINDS = {  # name: (the weight's kernel, the adapter), all on the CPU
    "LoRA": lambda: ((), lora()),
    "LoRA fp8": lambda: ((), lora(torch.float8_e4m3fn)),
    "LoCon": lambda: ((3, 3), lora(kernel=(3, 3))),
    "Tucker": lambda: ((3, 3), LoRA(r(OUT, RANK, 1, 1), r(RANK, INNER, 1, 1), 1.0, r(RANK, RANK, 3, 3))),
    "LoHa": lambda: ((), LoHa(r(OUT, RANK), r(RANK, INNER), r(OUT, RANK), r(RANK, INNER), 1.0)),
    "LoHa Tucker": lambda: (
        (3, 3),
        LoHa(r(RANK, OUT), r(RANK, INNER), r(RANK, OUT), r(RANK, INNER), 1.0, *(r(RANK, RANK, 3, 3) for _ in "ab")),
    ),
    "LoKr": lambda: ((), LoKr(1.0, w1=r(4, 4), w2_a=r(OUT // 4, RANK), w2_b=r(RANK, INNER // 4))),
    "LoKr Tucker": lambda: (
        (3, 3),
        LoKr(1.0, w1=r(4, 4), w2_a=r(RANK, OUT // 4), w2_b=r(RANK, INNER // 4), t2=r(RANK, RANK, 3, 3)),
    ),
    "OFT": lambda: ((), OFT(r(8, 8, 8), 0.01, r(OUT, 1))),
    "BOFT": lambda: ((3, 3), OFT(r(2, 8, 8, 8))),
    "OFT of inputs": lambda: ((), InputOFT(r(INNER // 8, 28))),
    "OFT of inputs, exact": lambda: ((3, 3), InputOFT(r(INNER * 9 // 8, 28), None, reverse_convolutions=True)),
    "DoRA": lambda: ((), DoRA(lora(), r(OUT, 1))),
    "DoRA of LoHa": lambda: ((), DoRA(LoHa(r(OUT, RANK), r(RANK, INNER), r(OUT, RANK), r(RANK, INNER), 1.0), r(OUT))),
    "(IA)^3": lambda: ((), IA3(r(OUT), False)),
    "(IA)^3 on inputs": lambda: ((3, 3), IA3(r(INNER), True)),
    "GLoRA": lambda: ((), GLoRA(r(INNER, RANK), r(RANK, INNER), r(OUT, RANK), r(RANK, INNER), 1.0)),
    "full difference": lambda: ((), Difference(r(OUT, INNER))),
    "replacement": lambda: ((), Replacement(r(OUT, INNER))),
    "halves turned": lambda: ((), Swapped(IA3(r(OUT), False))),
}


def weight(kernel=(), dtype=torch.float16, device="cuda", out=OUT, inner=INNER):
    return torch.empty(out, inner, *kernel, dtype=dtype, device=device)


@pytest.mark.parametrize("match_comfyui", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_goes_onto_a_weight_of_the_card_without_a_wait(name, dtype, match_comfyui):
    with pretend_cuda() as count:
        kernel, adapter = KINDS[name]()
        onto = weight(kernel, dtype)
        again = Change(put_together(take_apart(adapter)), 0.5)
        count.reset()
        apply_(onto, [Change(adapter, 0.5), again], 0.7, match_comfyui=match_comfyui)
        new = apply(onto, [again], match_comfyui=match_comfyui)
        assert new.device.type == "cuda" and new.dtype == dtype and new.shape == onto.shape
        assert count.waits == []


def test_the_bytes_that_travel_are_the_factors_and_no_more():
    with pretend_cuda() as count:
        adapters = [LoRA(r(640, 16).half(), r(16, 2560).half(), 2.0) for _ in range(5)]
        onto = weight(out=640, inner=2560)
        fused = fuse([Change(adapter, 0.5) for adapter in adapters])
        count.reset()
        write(onto, onto, fused)
        files = 5 * 2 * 16 * (640 + 2560)
        assert count.moves == 2 and count.moved_bytes == files + 5 * 2 * 16 * 640  # the smaller factor is fp32


@pytest.mark.parametrize("shape", [(320, 320), (1280, 1280, 3, 3), (10240, 1280), (21504, 3072), (3072, 15360)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_five_loras_are_one_pass_with_no_more_kernels_than_the_stock_way_for_one(shape, dtype):
    out, inner, *kernel = shape
    with pretend_cuda() as count:
        fused = fuse([Change(LoRA(r(out, 16).half(), r(16, inner, *kernel).half(), 2.0), n / 3) for n in range(5)])
        onto = weight(kernel, dtype, out=out, inner=inner)
        count.reset()
        write(onto, onto, fused)
        assert count.kernels <= STOCK_KERNELS and count.waits == []
        there = fused._replace(factors=tuple(factor.to("cuda") for factor in fused.factors))
        count.reset()
        write(onto, onto, there)  # as a host that has sent the factors ahead
        assert count.kernels <= STOCK_KERNELS - 2 and count.moves == 0 and count.waits == []


def test_a_weight_larger_than_the_tile_takes_more_passes_so_that_memory_stays_bounded():
    with pretend_cuda() as count:
        fused = fuse([Change(LoRA(r(40000, 4).half(), r(4, 4096).half(), 2.0), 1.0)])
        onto = weight((), torch.bfloat16, out=40000, inner=4096)
        count.reset()
        write(onto, onto, fused)
        assert count.kernels == 3 + 2 * 3 and count.waits == []  # both sent, one cast; 3 tiles of product and sum


def test_a_driver_that_refuses_to_pin_memory_makes_it_slower_and_nothing_else(monkeypatch):
    def refuse(tensor):
        refused.append(tensor.shape)
        raise RuntimeError("CUDA error: out of memory")

    refused = []
    with pretend_cuda():
        monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert send(r(4, 3), "cuda").device.type == "cuda" and refused == [(4, 3)]


def test_weights_of_a_card_are_sampled_with_one_wait_for_all_of_them():
    with pretend_cuda() as count:
        scale = torch.ones((), device="cuda")
        weights = [
            Stored(weight(out=1280, inner=640, dtype=d), s)
            for d, s in [(torch.float16, None), (torch.float8_e4m3fn, scale), (torch.float32, None)] * 20
        ]
        biases = [Stored(torch.empty(1280, device="cuda")) for _ in range(5)]
        count.reset()
        assert len(sample_sizes([*weights, *biases])) == 65
        assert count.moves == 1 and count.waits == []  # the lengths of all rows come back at once
        assert count.moved_bytes == 4 * (4 * 60 + 1280 * 5) and count.kernels <= 4 * 65 + 1


def test_weights_of_a_card_are_measured_whole_with_one_wait_for_all_of_them():
    with pretend_cuda() as count:
        weights = [weight(dtype=dtype) for dtype in (torch.float16, torch.float8_e4m3fn, torch.float32)] * 4
        count.reset()
        assert len(exact_norms(iter(weights), 12, lambda done, total: None)) == 12
        assert count.moves == 1 and count.waits == [] and count.kernels <= 2 * 12 + 1
