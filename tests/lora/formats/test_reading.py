"""LoRA files of every dialect are read: every spelling, alpha in every form, learned words."""

import math

import pytest
import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.kinds.adapters import LoRA

from ...support.loras.parts import equal, pair, peft_file

SPELLINGS = {
    "kohya": ("lora_unet_x", ".lora_down.weight", ".lora_up.weight"),
    "diffusers": ("unet.x", ".lora_A.weight", ".lora_B.weight"),
    "diffusers 0.2x": ("unet.x", ".lora.down.weight", ".lora.up.weight"),
    "diffusers 0.1x": ("unet.attn1.processor.to_q", "_lora.down.weight", "_lora.up.weight"),
    "diffusers text": ("text_encoder.x", ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    "bare": ("x.y", ".lora_A", ".lora_B"),
    "peft": ("base_model.model.x", ".lora_A.weight", ".lora_B.weight"),
    "peft unsaved": ("base_model.model.x", ".lora_A.default.weight", ".lora_B.default.weight"),
    "cloneofsimo": ("unet:7", ":down", ":up"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_read(spelling):
    module, down, up = SPELLINGS[spelling]
    factors = pair()
    file = read({module + up: factors[0], module + down: factors[1]})
    assert list(file.adapters) == [module] and not file.unread
    assert equal(file.adapters[module], LoRA(*factors, 2.0))
    assert file.dialect == {"bare": "diffusers"}.get(spelling, spelling.split()[0])


@pytest.mark.parametrize("alpha", [torch.tensor(1.0), torch.tensor([1.0]), torch.tensor(1.0, dtype=torch.float16)])
def test_alpha_is_read_in_any_form_of_one_number(alpha):
    up, down = pair()
    file = read({"a.lora_up.weight": up, "a.lora_down.weight": down, "a.alpha": alpha})
    assert file.adapters["a"].scale == 0.5 and not file.notes


def test_a_middle_tensor_is_read():
    parts = {
        "a.lora_up.weight": torch.ones(6, 2, 1, 1),
        "a.lora_down.weight": torch.ones(2, 5, 1, 1),
        "a.lora_mid.weight": torch.ones(2, 2, 3, 3),
    }
    assert read(parts).adapters["a"].delta((6, 5, 3, 3)).shape == (6, 5, 3, 3)


def test_the_scale_of_a1111_overrides_alpha():
    up, down = pair()
    file = read(
        {
            "a.lora_up.weight": up,
            "a.lora_down.weight": down,
            "a.alpha": torch.tensor(8.0),
            "a.scale": torch.tensor(0.25),
        }
    )
    assert file.adapters["a"].scale == 0.25


def test_alpha_zero_is_kept_and_noted():
    up, down = pair()
    file = read({"a.lora_up.weight": up, "a.lora_down.weight": down, "a.alpha": torch.tensor(0.0)})
    assert file.adapters["a"].scale == 0 and "alpha 0" in file.notes[0]


def test_learned_words_are_kept_apart_from_adapters():
    up, down = pair()
    tensors = {"unet:0:up": up, "unet:0:down": down, "<s1>": torch.ones(8), "<s2>": torch.full((8,), torch.nan)}
    file = read(tensors, {"<s1>": "<embed>", "<s2>": "<embed>"})
    assert list(file.embeddings) == ["<s1>"] and "NaN" in file.unread["<s2>"]


def test_an_alpha_that_no_trainer_writes_is_noted_and_one_that_would_overflow_is_not_read():
    up, down = pair()
    for alpha in (1e6, 1e30, math.inf, math.nan):
        file = read({"a.lora_up.weight": up, "a.lora_down.weight": down, "a.alpha": torch.tensor(alpha)})
        assert "damaged" in file.notes[0] if alpha == 1e6 else "alpha" in file.unread["a"]
    scaled = {"a.lora_up.weight": up, "a.lora_down.weight": down, "a.scale": torch.tensor(9e8)}
    assert "no trainer" in read(scaled).unread["a"]


def test_modules_to_save_replace_what_the_model_has():
    value = torch.randn(6, 5)
    file = read(peft_file() | {"base_model.model.head.modules_to_save.default.weight": value}, {}, {"lora_alpha": 2})
    weight = torch.randn(6, 5)
    torch.testing.assert_close(weight + file.adapters["base_model.model.head"].delta(weight), value)
