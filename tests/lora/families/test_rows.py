"""A fused module of a file on separate weights: each takes its rows of what the module does to the three together."""

import pytest
import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.models.match import match, shape_at

ROWS, WIDTH = (8, 4, 4), 12
NAME = "lycoris_transformer_blocks_0_attn_to_qkv"
KEYS = [f"diffusion_model.blocks.0.attn.w{x}.weight" for x in "qkv"]
SHAPES = {
    **{key: (rows, WIDTH) for key, rows in zip(KEYS, ROWS)},
    **{key.replace(".weight", ".bias"): (rows,) for key, rows in zip(KEYS, ROWS)},
    "diffusion_model.txtfusion.projector.weight": (1, 12),
}


def r(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


LORA = {"lora_up.weight": r(16, 2), "lora_down.weight": r(2, WIDTH), "alpha": torch.tensor(1.0)}
LOKR = {"lokr_w1": r(2, 2), "lokr_w2": r(8, 6), "alpha": torch.tensor(1.0)}
KINDS = {
    "LoRA": LORA,
    "LoHa": {"hada_w1_a": r(16, 2), "hada_w1_b": r(2, 12), "hada_w2_a": r(16, 2) + 1, "hada_w2_b": r(2, 12) - 1},
    "LoKr": LOKR,
    "DoRA": LORA | {"dora_scale": r(16, 1).abs() + 1},
    "DoRA of LoKr": LOKR | {"dora_scale": r(16, 1).abs() + 1},
    "diff": {"diff": r(16, WIDTH)},
}


def file_of(parts):
    return read({f"{NAME}.{suffix}": value for suffix, value in parts.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_of_the_parts_are_the_rows_of_the_whole(kind):
    file, weights = file_of(KINDS[kind]), [r(rows, WIDTH) + n for n, rows in enumerate(ROWS)]
    found = match(file, SHAPES)
    assert not found.misfit and not found.homeless and set(found.found) == set(KEYS)
    assert set(found.modules.values()) == {NAME}
    whole = file.adapters[NAME].delta(torch.cat(weights)).split(ROWS)
    for key, weight, expected in zip(KEYS, weights, whole):
        torch.testing.assert_close(found.found[key].delta(weight), expected, rtol=1e-5, atol=1e-5)


def test_a_bias_goes_along_in_the_same_rows():
    bias = r(16)
    found = match(file_of({"diff": r(16, WIDTH), "diff_b": bias}), SHAPES).found
    for key, expected in zip(KEYS, bias.split(ROWS)):
        place = key.replace(".weight", ".bias")
        assert torch.equal(found[place].delta(shape_at(place, SHAPES)), expected)


def test_what_needs_the_three_weights_together_is_told_and_not_applied():
    found = match(file_of(LORA | {"dora_scale": r(1, WIDTH).abs() + 1}), SHAPES)
    assert not found.found and "taken apart" in found.misfit[NAME]


def test_a_fused_module_of_another_number_of_rows_is_told():
    wrong = {**LORA, "lora_up.weight": r(20, 2)}
    found = match(file_of(wrong), SHAPES)
    assert not found.found and "[20, 12]" in found.misfit[NAME]
