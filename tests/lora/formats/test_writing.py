"""LoRA files of every dialect are written, and read back equal."""

import pytest
import torch

from clip_vae_lora.lora.formats.read import read, write
from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError

from ...support.loras.parts import equal, pair, peft_file

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
