"""Load LoRA with files that are odd: each is right, or one sentence says what is wrong."""

import os

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.lora.kinds.adapters import LoRA
from clip_vae_lora.lora.weights.fusing import Change, apply
from clip_vae_lora.nodes.lora.files import read_lora

from ...support import tiny

FIRST = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.fixture
def clip_model(place):
    tiny.clip_file(place.models / "clip_vision" / "c.safetensors")
    return place.node("CVL_LoadCLIPModel").load("c.safetensors")["result"][0]


def told(place, clip_model, **options) -> str:
    answer = place.node("CVL_LoadLoRA").load("l.safetensors", 1.0, 1.0, clip_model=clip_model, **options)
    return answer["ui"]["text"][0]


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_read_again(place):
    path = tiny.lora_file(place.models / "loras" / "l.safetensors", [FIRST])
    status = path.stat()
    node = type(place.node("CVL_LoadLoRA"))
    before, mark = read_lora(path), node.IS_CHANGED(file="l.safetensors")
    twin = path.with_name("twin.safetensors")
    tensors = {"lora_up": torch.ones(64, 2), "lora_down": torch.ones(2, 64)}
    write_tensors(
        twin,
        {f"{FIRST}.{name}.weight": tensor for name, tensor in tensors.items()} | {f"{FIRST}.alpha": torch.tensor(2.0)},
        {},
    )
    os.utime(twin, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(twin, path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert node.IS_CHANGED(file="l.safetensors") != mark
    assert torch.equal(read_lora(path).file.adapters[FIRST].up, torch.ones(64, 2))
    assert not torch.equal(before.file.adapters[FIRST].up, torch.ones(64, 2))


def test_a_file_for_another_input_says_what_to_connect(place, clip_model):
    names = ["lora_unet_down_blocks_0_attentions_0_proj_in", "lora_unet_mid_block_attentions_0_proj_in"]
    tiny.lora_file(place.models / "loras" / "l.safetensors", names)
    expected = "all of its 2 modules are for a diffusion model (MODEL), which is not connected: connect it"
    assert expected in told(place, clip_model)


def test_two_spellings_of_one_module_are_both_named_once(place, clip_model):
    other = "lora_te_text_model_encoder_layers_1_self_attn_q_proj"
    spelled = "text_model.encoder.layers.0.self_attn.q_proj"
    tiny.lora_file(place.models / "loras" / "l.safetensors", [FIRST, spelled, other])
    text = told(place, clip_model)
    assert text.count("both change") == 1 and "1 of its 3 parts used" in text


@pytest.mark.parametrize("second", TYPES)
@pytest.mark.parametrize("first", TYPES)
def test_factors_of_mixed_types_are_one_sum(first, second):
    generator = torch.Generator().manual_seed(0)
    up, down, weight = (torch.randn(shape, generator=generator) for shape in ((8, 2), (2, 6), (8, 6)))
    changes = [
        Change(LoRA(up.to(first), down.to(second), 1.0), 0.5),
        Change(LoRA(up.to(second), down.to(first), 2.0), -0.3),
        Change(LoRA(up, down, 1.0), 0.1),
    ]
    expected = weight + sum(adapter.delta(weight, strength) for adapter, strength in changes)
    for dtype in (torch.float32, torch.bfloat16):
        found = apply(weight.to(dtype), changes)
        wanted = expected if dtype == torch.float32 else apply(weight.to(dtype).float(), changes).to(dtype)
        assert found.dtype == dtype and torch.allclose(found.float(), wanted.float(), atol=2e-6)
