"""The scale of PEFT files comes from a configuration beside them or in the header."""

import json

import pytest
import torch

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.kinds.adapters import LoRAError

from ...support.loras.parts import pair, peft_file


@pytest.mark.parametrize(
    "config, scale",
    [
        ({"r": 2, "lora_alpha": 8}, 4.0),
        ({"r": 2, "lora_alpha": 8, "use_rslora": True}, 8 / 2**0.5),
        ({"r": 4, "lora_alpha": 8, "rank_pattern": {"fc1": 2}}, 4.0),
        ({"r": 2, "lora_alpha": 8, "alpha_pattern": {"fc2": 1, "block.fc1": 2}}, 1.0),
        ({"r": 2, "lora_alpha": 8, "alpha_pattern": {"^fc1": 2}}, 4.0),
        ({"r": 2, "lora_alpha": 8, "alpha_pattern": {r".*fc\d": 2}}, 1.0),
        ({"lora_alpha": 6.5}, 3.25),
    ],
)
def test_the_scale_of_peft_comes_from_its_configuration(config, scale):
    for file in (read(peft_file(), {}, config), read(peft_file(), {"adapter_config": json.dumps(config)})):
        assert file.adapters["base_model.model.block.fc1"].scale == pytest.approx(scale, rel=1e-12)
        assert not file.notes and not file.unread


def test_diffusers_metadata_names_the_component():
    header = {
        "lora_adapter_metadata": json.dumps(
            {"unet.r": 2, "unet.lora_alpha": 8, "text_encoder.r": 2, "text_encoder.lora_alpha": 1}
        )
    }
    file = read(peft_file("unet.block.fc1") | peft_file("text_encoder.fc1") | peft_file("other"), header)
    assert {name: adapter.scale for name, adapter in file.adapters.items()} == {
        "unet.block.fc1": 4.0,
        "text_encoder.fc1": 0.5,
        "other": 1.0,
    }


def test_peft_without_a_configuration_is_noted():
    assert "adapter_config.json" in read(peft_file()).notes[0]


@pytest.mark.parametrize(
    "config, message",
    [
        ({"r": 4, "lora_alpha": 8}, "rank 4"),
        ({"r": 2, "lora_alpha": "many"}, "expected a number"),
        ({"r": 2}, "no lora_alpha"),
        ({"r": 2, "lora_alpha": 8, "use_dora": True}, "DoRA"),
        ({"r": 2, "lora_alpha": 8, "alpha_pattern": [1]}, "table"),
        ({"r": 2, "lora_alpha": 8, "alpha_pattern": {"(a+)+": 1}}, "complicated"),
        ({"r": 2, "lora_alpha": 8, "alpha_pattern": {"[": 1}}, "complicated"),
        ({"r": 2, "lora_alpha": float("nan")}, "number"),
    ],
)
def test_a_configuration_that_contradicts_or_confuses_leaves_the_module_unread(config, message):
    file = read(peft_file(), {}, config)
    assert not file.adapters and message in file.unread["base_model.model.block.fc1"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "[" * 100_000])
def test_a_header_that_is_not_json_is_one_sentence(text):
    with pytest.raises(LoRAError, match="adapter_config"):
        read(peft_file(), {"adapter_config": text})


@pytest.mark.parametrize("header", ["not JSON", "[1]", '"text"', "{"])
def test_a_header_that_is_no_json_stops_only_a_file_that_needs_it(header):
    up, down = pair()
    plain = {"a.lora_up.weight": up, "a.lora_down.weight": down, "a.alpha": torch.tensor(1.0)}
    file = read(plain, {"adapter_config": header})
    assert file.adapters["a"].scale == 0.5 and "not a JSON object" in file.notes[0] and not file.unread
    with pytest.raises(LoRAError, match="the scale is unknown"):
        read(peft_file(), {"adapter_config": header})
    with pytest.raises(LoRAError, match="the scale is unknown"):
        read({**plain, **peft_file()}, {"lora_adapter_metadata": header})
    stated = {**peft_file(), "base_model.model.block.fc1.alpha": torch.tensor(1.0)}
    assert read(stated, {"adapter_config": header}).adapters["base_model.model.block.fc1"].scale == 0.5
