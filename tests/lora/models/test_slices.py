"""Every kind of adapter on rows of a fused weight: what arrives is the dense mathematics of the kind, in those rows."""

import pytest
import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.models.match import match, part_of
from clip_vae_lora.lora.models.places import Slice

W = 12  # the width of a Flux in miniature: qkv has 36 rows, linear1 has 84
SHAPES = {
    "diffusion_model.double_blocks.0.img_attn.qkv.weight": (3 * W, W),
    "diffusion_model.double_blocks.0.img_attn.qkv.bias": (3 * W,),
    "diffusion_model.double_blocks.0.img_attn.proj.weight": (W, W),
    "diffusion_model.single_blocks.0.linear1.weight": (7 * W, W),
    "diffusion_model.single_blocks.0.linear1.bias": (7 * W,),
    "diffusion_model.single_blocks.0.linear2.weight": (W, 5 * W),
}
QKV = "diffusion_model.double_blocks.0.img_attn.qkv"
LINEAR1 = "diffusion_model.single_blocks.0.linear1"
PLACES = {  # diffusers' name -> the key, and the first row and the rows that are its own
    "transformer.transformer_blocks.0.attn.to_q": (QKV, 0, W),
    "transformer.transformer_blocks.0.attn.to_k": (QKV, W, W),
    "transformer.transformer_blocks.0.attn.to_v": (QKV, 2 * W, W),
    "transformer.single_transformer_blocks.0.attn.to_v": (LINEAR1, 2 * W, W),
    "transformer.single_transformer_blocks.0.proj_mlp": (LINEAR1, 3 * W, 4 * W),
}


def r(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=torch.float64).float()


def lora(rows):
    up, down = r(rows, 2), r(2, W, seed=1)
    return {
        "lora_up.weight": up,
        "lora_down.weight": down,
        "alpha": torch.tensor(3.0),
    }, 1.5 * up.double() @ down.double()


def loha(rows):
    a1, b1, a2, b2 = r(rows, 2), r(2, W, seed=2), r(rows, 2, seed=3), r(2, W, seed=4)
    parts = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2, "alpha": torch.tensor(1.0)}
    return parts, 0.5 * (a1.double() @ b1.double()) * (a2.double() @ b2.double())


def lokr(rows):
    small, large = r(2, 3), r(rows // 2, W // 3, seed=5)
    return {"lokr_w1": small, "lokr_w2": large, "alpha": torch.tensor(9.0)}, torch.kron(small.double(), large.double())


def lokr_of_factors(rows):
    small, a, b = r(2, 3), r(rows // 2, 2, seed=6), r(2, W // 3, seed=7)
    parts = {"lokr_w1": small, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(1.0)}
    return parts, 0.5 * torch.kron(small.double(), a.double() @ b.double())


def difference(rows):
    return {"diff": r(rows, W)}, r(rows, W).double()


KINDS = {"LoRA": lora, "LoHa": loha, "LoKr": lokr, "LoKr of factors": lokr_of_factors, "diff": difference}


def dora(parts, change, weight):
    """DoRA's own formula over the output axis: magnitude * (W + dW) / ||W + dW||, by row; dW is the change itself."""
    magnitude = r(weight.shape[0], 1, seed=8).abs() + 0.5
    whole = weight.double() + change
    return {**parts, "dora_scale": magnitude}, magnitude.double() * whole / whole.norm(
        dim=1, keepdim=True
    ) - weight.double()


@pytest.mark.parametrize("decomposed", [False, True], ids=["plain", "DoRA"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PLACES)
def test_a_kind_on_rows_changes_those_rows_by_its_dense_formula(name, kind, decomposed):
    if decomposed and kind == "diff":
        pytest.skip("no trainer decomposes a full difference")
    key, first, rows = PLACES[name]
    weight = r(*SHAPES[key + ".weight"], seed=9)
    own = weight.narrow(0, first, rows)
    parts, change = KINDS[kind](rows)
    if decomposed:
        parts, change = dora(parts, change, own)
    found = match(read({f"{name}.{suffix}": value for suffix, value in parts.items()}), SHAPES)
    place = Slice(key + ".weight", (0, first, rows))
    assert list(found.found) == [place] and not found.homeless and not found.misfit
    delta = found.found[place].delta(part_of(weight, place), 0.7)
    torch.testing.assert_close(delta.double(), 0.7 * change, rtol=1e-5, atol=1e-5)  # fp32 against double precision


@pytest.mark.parametrize("name", PLACES)
def test_a_bias_goes_into_the_rows_of_its_weight(name):
    key, first, rows = PLACES[name]
    bias = r(rows, seed=10)
    found = match(read({f"{name}.diff": r(rows, W), f"{name}.diff_b": bias}), SHAPES)
    place = Slice(key + ".bias", (0, first, rows))
    assert set(found.found) == {place, Slice(key + ".weight", (0, first, rows))}
    assert torch.equal(found.found[place].delta(torch.zeros(rows)), bias)


def test_several_kinds_meet_in_one_fused_weight():
    names = list(PLACES)[:3]
    tensors = {}
    for name, kind in zip(names, ("LoRA", "LoKr", "LoHa")):
        tensors |= {f"{name}.{suffix}": value for suffix, value in KINDS[kind](W)[0].items()}
    found = match(read(tensors), SHAPES)
    assert set(found.found) == {Slice(QKV + ".weight", (0, n * W, W)) for n in range(3)}
    for n, kind in enumerate(("LoRA", "LoKr", "LoHa")):
        place = Slice(QKV + ".weight", (0, n * W, W))
        delta = found.found[place].delta(torch.zeros(W, W))
        torch.testing.assert_close(delta.double(), KINDS[kind](W)[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_another_number_of_rows_is_told_with_both_sizes(kind):
    name = next(iter(PLACES))
    parts = KINDS[kind](2 * W)[0]
    found = match(read({f"{name}.{suffix}": value for suffix, value in parts.items()}), SHAPES)
    assert not found.found and f"[{2 * W}, {W}]" in found.misfit[name] and f"[{W}, {W}]" in found.misfit[name]
