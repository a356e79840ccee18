"""Files of every dialect: read, written, and what is said about the parts that are not read."""

import json
import math

import pytest
import torch

from clip_vae_lora.lora.formats.read import read, write
from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError


def pair(out=6, rank=2, inner=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(out, rank, generator=g), torch.randn(rank, inner, generator=g)


def equal(a, b):
    parts = [(a.up, b.up), (a.down, b.down)] + ([] if a.mid is None else [(a.mid, b.mid)])
    return a.alpha == b.alpha and all(x.dtype == y.dtype and torch.equal(x, y) for x, y in parts)


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


ADAPTERS = {
    "base_model.model.a.b": LoRA(*pair(seed=1), 2.0),
    "base_model.model.a.c": LoRA(*pair(rank=3, seed=2), 2.0),
    "base_model.model.b": LoRA(pair()[0].half(), pair()[1].half(), 0.1),
    "base_model.model.conv": LoRA(torch.randn(6, 2, 1, 1), torch.randn(2, 5, 3, 3), 2 * 2**0.5),
    "base_model.model.d(+)[0]": LoRA(*pair(seed=3), -3.0),
}


@pytest.mark.parametrize("dialect", ["kohya", "peft"])
def test_what_is_written_is_read_back_equal(dialect):
    tensors, header = write(ADAPTERS, dialect, {"title": "x"})
    file = read(tensors, header)
    assert file.adapters.keys() == ADAPTERS.keys() and not file.unread and not file.notes
    assert all(equal(ADAPTERS[name], adapter) for name, adapter in file.adapters.items())
    assert header["title"] == "x" and all(isinstance(value, str) for value in header.values())


def test_a_middle_tensor_is_written_back_equal():
    lora = {"a": LoRA(torch.randn(6, 2, 1, 1), torch.randn(2, 5, 1, 1), 1.5, torch.randn(2, 2, 3, 3))}
    tensors, header = write(lora, "kohya")
    assert equal(read(tensors, header).adapters["a"], lora["a"])
    assert header["ss_network_module"] == "lycoris.kohya"
    for dialect in ("diffusers", "peft"):
        with pytest.raises(LoRAError, match="middle"):
            write(lora, dialect)


def test_diffusers_files_have_the_scale_in_up():
    """Their readers know no alpha, so the change of the weight is what comes back, not the same factors."""
    plain = {"unet.a": LoRA(*pair(), 2.0)}
    assert equal(read(*write(plain, "diffusers")).adapters["unet.a"], plain["unet.a"])
    scaled = {f"unet.{n}": adapter for n, adapter in enumerate(ADAPTERS.values())}
    tensors, header = write(scaled, "diffusers")
    assert not any("alpha" in name for name in [*tensors, *header])
    for name, adapter in read(tensors, header).adapters.items():
        shape = (6, 5, *scaled[name].down.shape[2:])
        assert adapter.scale == 1.0
        torch.testing.assert_close(adapter.delta(shape), scaled[name].delta(shape), rtol=1e-6, atol=1e-6)


def test_kohya_headers_say_dynamic_where_ranks_differ():
    assert (
        write({"a": LoRA(*pair(), 4.0)}, "kohya")[1].items()
        >= {"ss_network_dim": "2", "ss_network_alpha": "4.0", "ss_network_module": "networks.lora"}.items()
    )
    assert write(ADAPTERS, "kohya")[1]["ss_network_dim"] == "Dynamic"


@pytest.mark.parametrize(
    "adapters, dialect, metadata, message",
    [
        (ADAPTERS, "a1111", None, "expected one of kohya"),
        ({}, "kohya", None, "no adapters"),
        (ADAPTERS, "kohya", {"steps": 3}, "steps is int"),
        ({"a": LoRA(*pair(), 1.0)}, "peft", None, "base_model.model"),
    ],
)
def test_what_cannot_be_written_is_said(adapters, dialect, metadata, message):
    with pytest.raises(LoRAError, match=message):
        write(adapters, dialect, metadata)


def peft_file(module="base_model.model.block.fc1"):
    up, down = pair()
    return {f"{module}.lora_B.weight": up, f"{module}.lora_A.weight": down}


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


OTHERS = {
    "BOFT as PEFT": ["boft_R", "boft_s"],
    "AdaLoRA": ["lora_A", "lora_B", "lora_E"],
    "VeRA": ["vera_lambda_b", "vera_lambda_d"],
    "DyLoRA": ["lora_A.0.weight", "lora_B.0.weight"],
    "bias inside": ["lora_A.weight", "lora_B.weight", "lora_A.bias"],
    "T-LoRA": ["lambda_layer", "lora_A.weight"],
    "LoKr with a core": ["lokr_w1", "lokr_w2", "lokr_t1"],
    "enlarges": ["reshape_weight", "lora_A.weight"],
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


def test_alpha_zero_is_kept_and_noted():
    up, down = pair()
    file = read({"a.lora_up.weight": up, "a.lora_down.weight": down, "a.alpha": torch.tensor(0.0)})
    assert file.adapters["a"].scale == 0 and "alpha 0" in file.notes[0]


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


@pytest.mark.parametrize("config", [{"r": 2, "lora_alpha": 8}, {"r": 2, "lora_alpha": 8, "use_rslora": True}])
def test_peft_dora_and_bias_are_written_and_read_with_their_scale(config):
    name = "base_model.model.block.fc1"
    file = read(peft_file() | {f"{name}.lora_magnitude_vector": torch.rand(6) + 0.5}, {}, config | {"use_dora": True})
    again = read(*write(file.adapters, "peft"))
    weight = torch.randn(6, 5)
    assert torch.equal(again.adapters[name].delta(weight), file.adapters[name].delta(weight)) and not again.notes
    biased = read(peft_file() | {f"{name}.lora_B.bias": torch.ones(6)}, {}, config).adapters
    assert torch.allclose(biased[f"{name}.bias"].delta((6,)), torch.full((6,), biased[name].scale))


def test_cloneofsimo_is_written_with_the_scale_in_up_and_its_header():
    adapters = {"unet:3": LoRA(*pair(), 2.0), "text_encoder:0": LoRA(*pair(rank=1), 3.0)}
    tensors, header = write(adapters, "cloneofsimo")
    assert set(tensors) == {"unet:3:up", "unet:3:down", "text_encoder:0:up", "text_encoder:0:down"}
    assert header["unet:3:rank"] == "2" and "CLIPAttention" in header["text_encoder"]
    again = read(tensors, header)
    assert again.dialect == "cloneofsimo" and not again.unread
    for name, adapter in adapters.items():
        torch.testing.assert_close(again.adapters[name].delta((6, 5)), adapter.delta((6, 5)))


def test_old_diffusers_names_have_no_dot_before_lora():
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q"
    tensors, _ = write({name: LoRA(*pair(), 2.0)}, "diffusers_0.1")
    assert set(tensors) == {f"{name}_lora.down.weight", f"{name}_lora.up.weight"} and name in read(tensors).adapters


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


def test_modules_to_save_replace_what_the_model_has():
    value = torch.randn(6, 5)
    file = read(peft_file() | {"base_model.model.head.modules_to_save.default.weight": value}, {}, {"lora_alpha": 2})
    weight = torch.randn(6, 5)
    torch.testing.assert_close(weight + file.adapters["base_model.model.head"].delta(weight), value)
