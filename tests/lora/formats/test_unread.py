"""What is not read is listed with its reason: other kinds, damaged modules, strange tensors."""

import math

import pytest
import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.kinds.adapters import LoRAError

from ...support.loras.parts import pair, peft_file

OTHERS = {
    "BOFT as PEFT": ["boft_R", "boft_s"],
    "AdaLoRA": ["lora_A", "lora_B", "lora_E"],
    "VeRA": ["vera_lambda_b", "vera_lambda_d"],
    "DyLoRA": ["lora_A.0.weight", "lora_B.0.weight"],
    "bias inside": ["lora_A.weight", "lora_B.weight", "lora_A.bias"],
    "T-LoRA": ["lambda_layer", "lora_A.weight"],
    "LoKr with a core": ["lokr_w1", "lokr_w2", "lokr_t1"],
    "middle tensor": ["a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight"],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_kind_is_unread_as_a_whole_under_its_name(kind):
    up, down = pair()
    parts = {f"a.{suffix}": torch.ones(2, 2) for suffix in OTHERS[kind]}
    file = read(parts | {"b.lora_up.weight": up, "b.lora_down.weight": down})
    assert list(file.adapters) == ["b"]
    assert kind in file.unread["a"]


@pytest.mark.parametrize(
    "magnitude", ["lora_magnitude_vector", "lora_magnitude_vector.weight", "lora_magnitude_vector.default.weight"]
)
def test_peft_dora_is_never_applied_as_plain_lora(magnitude):
    name = "base_model.model.block.fc1"
    for config in ({"r": 2, "lora_alpha": 8, "use_dora": True}, {"r": 2, "lora_alpha": 8}):
        dora = read(peft_file() | {f"{name}.{magnitude}": torch.ones(6)}, {}, config).adapters[name]
        assert dora.kind == "DoRA of LoRA" and dora.inner.scale == 4.0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"a.lora_down.weight": None}, "no down"),
        ({"a.lora_up.weight": None}, "no up"),
        ({"a.lora_up.weight": torch.zeros(6, 3)}, "ranks differ"),
        ({"a.lora_up.weight": torch.zeros(6)}, "expected"),
        ({"a.lora_up.weight": torch.full((6, 2), torch.nan)}, "NaN"),
        ({"a.alpha": torch.tensor(torch.nan)}, "NaN"),
        ({"a.alpha": torch.tensor(torch.inf)}, "infinity"),
        ({"a.alpha": torch.ones(4)}, "4 values"),
        ({"a.alpha": torch.ones(0)}, "0 values"),
        ({"a.lora_down.weight": torch.zeros(2, 5, dtype=torch.int8)}, "int8"),
        ({"a.lora_A.weight": torch.zeros(2, 5)}, "two adapters"),
        ({"a.strange": torch.zeros(1)}, "a.strange"),
        ({"a.base_layer.bias": torch.zeros(1)}, "base_layer.bias"),
    ],
)
def test_a_damaged_module_is_unread_with_the_reason(change, message):
    up, down = pair()
    tensors = {
        "a.lora_up.weight": up,
        "a.lora_down.weight": down,
        "a.alpha": torch.tensor(1.0),
        "b.lora_up.weight": up,
        "b.lora_down.weight": down,
    } | change
    file = read({name: tensor for name, tensor in tensors.items() if tensor is not None})
    assert list(file.adapters) == ["b"] and message in file.unread["a"]


def test_whole_parameters_and_strange_tensors_are_listed():
    up, down = pair()
    file = read({"a.lora_up.weight": up, "a.lora_down.weight": down, "head.weight": up, "step": down})
    assert "whole parameter" in file.unread["head.weight"] and "not a tensor" in file.unread["step"]


def test_a_file_that_is_no_lora_is_one_sentence():
    for tensors in ({}, {"model.diffusion_model.out.2.weight": torch.zeros(1)}):
        with pytest.raises(LoRAError, match="no LoRA tensors here"):
            read(tensors)


@pytest.mark.parametrize(
    "header, message",
    [
        ({"unet": '["ResnetBlock2D", "GEGLU"]'}, "default choice"),
        ({"unet": "{"}, "default choice"),
        ({"unet": "[[1]]"}, "default choice"),
        ({"unet:0:rank": "9"}, "rank 9"),
    ],
)
def test_cloneofsimo_numbers_of_another_choice_of_layers_are_refused(header, message):
    up, down = pair()
    file = read({"unet:0:up": up, "unet:0:down": down}, header)
    assert not file.adapters and message in file.unread["unet:0"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize("value, said", [(math.nan, "NaN or infinity"), (-math.inf, "NaN or infinity")])
def test_factors_that_are_not_numbers_are_not_read(dtype, value, said):
    up, down = pair()
    down = down.to(dtype)
    down.view(-1)[-1] = value
    assert said in read({"a.lora_up.weight": up, "a.lora_down.weight": down}).unread["a"]


def test_factors_too_large_for_any_training_are_not_read():
    up, down = pair()
    assert "1.0e+12" in read({"a.lora_up.weight": up, "a.lora_down.weight": down * 0 - 1e12}).unread["a"]


def test_two_kinds_in_one_module_are_unread():
    up, down = pair()
    file = read(
        {
            "a.lora_up.weight": up,
            "a.lora_down.weight": down,
            "a.diff": torch.ones(6, 5),
            "b.oft_blocks": torch.zeros(2, 3, 3),
            "b.dora_scale": torch.ones(6, 1),
        }
    )
    assert not file.adapters and "two kinds" in file.unread["a"] and "ignored" in file.unread["b"]
