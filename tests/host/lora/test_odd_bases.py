"""Models whose names, shapes or numbers are not what their state dict says: compiled, packed for good, or lying."""

import pytest
import torch
from torch import nn

from clip_vae_lora.files.tensors import write_tensors

from ...support.loras import small_flux
from .test_lora_kinds import ours  # noqa: F401  fixture
from .test_quantised_bases import file, stock, weights  # noqa: F401  fixtures


class Params4bit(nn.Parameter):
    """Named and typed as bitsandbytes' weight."""


class Lying(nn.Linear):
    """A layer whose state dict has another shape, on no device, as GGUF's has."""

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        destination[f"{prefix}weight"] = torch.zeros(7, device="meta")


def holder(layer: nn.Module):
    from comfy.model_patcher import ModelPatcher

    model, cpu = nn.Module(), torch.device("cpu")
    model.diffusion_model = nn.Module()
    model.diffusion_model.layer = layer
    return ModelPatcher(model, cpu, cpu)


def layer_file(comfyui) -> str:
    shapes = {"diffusion_model.layer.weight": (8, 6)}
    write_tensors(comfyui.models / "loras" / "layer.safetensors", small_flux.lora_of(shapes), {})
    return "layer.safetensors"


def test_a_network_that_another_copy_has_compiled_takes_the_lora(comfyui, file):  # noqa: F811
    import comfy.model_management as management

    model = small_flux.flux()
    expected = weights(stock(comfyui, model, (file, 0.8)))
    other = model.clone()
    other.add_object_patch("diffusion_model", torch.compile(model.model.diffusion_model))
    management.load_models_gpu([other])
    try:
        assert any("_orig_mod." in name for name in model.model.state_dict())
        alone = comfyui.nodes["CVL_LoadLoRA"]().load(file, 0.8, 0.0, model=model)["result"][0]
    finally:
        management.unload_all_models()
    found = weights(alone)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], own) for key, own in expected.items())


def test_a_state_dict_that_lies_about_its_shapes_is_not_believed(comfyui):
    model = holder(Lying(6, 8, bias=False))
    mine = comfyui.nodes["CVL_LoadLoRA"]().load(layer_file(comfyui), 1.0, 0.0, model=model)
    assert list(mine["result"][0].patches) == ["diffusion_model.layer.weight"]
    assert "all of it used" in mine["ui"]["text"][0]


@pytest.mark.parametrize("by", ["bitsandbytes", "Nunchaku"])
def test_layers_packed_for_good_are_named_in_one_sentence(comfyui, by):
    layer = nn.Module()
    codes = torch.zeros(24, 1, dtype=torch.uint8)
    if by == "Nunchaku":
        layer.qweight = nn.Parameter(codes, requires_grad=False)
    else:
        layer.weight = Params4bit(codes, requires_grad=False)
    model = holder(layer)
    answer = comfyui.nodes["CVL_LoadLoRA"]().load(layer_file(comfyui), 1.0, 0.0, model=model)
    assert answer["result"][0] is model
    assert f"1 of its 1 modules are for layers of the model that are packed by {by}" in answer["ui"]["text"][0]
    with pytest.raises(ValueError, match=f"packed by {by}"):
        comfyui.nodes["CVL_LoadLoRA"]().load(layer_file(comfyui), 1.0, 0.0, model=model, strict=True)


def test_a_file_for_the_text_encoder_alone_asks_for_the_clip(comfyui):
    shapes = {"lora_te_text_model_encoder_layers_0_mlp_fc1.weight": (8, 6)}
    write_tensors(comfyui.models / "loras" / "words.safetensors", small_flux.lora_of(shapes), {})
    answer = comfyui.nodes["CVL_LoadLoRA"]().load("words.safetensors", 1.0, 1.0, model=small_flux.flux())
    assert "are for a text encoder (CLIP), which is not connected: connect it" in answer["ui"]["text"][0]


def control(model, comfyui) -> str:
    """A file as Black Forest Labs write their control LoRAs: img_in twice as wide, new norm scales, biases."""
    tensors, state = {}, model.model.state_dict()
    generator = torch.Generator().manual_seed(3)
    for key, own in state.items():
        name = key.removeprefix("diffusion_model.").removesuffix(".weight")
        if name.removesuffix(".scale").endswith(("query_norm", "key_norm")):
            tensors[name.removesuffix(".scale") + ".scale"] = torch.rand(own.shape, generator=generator)
        elif own.ndim == 2:
            inputs = own.shape[1] * (2 if name == "img_in" else 1)
            tensors[f"{name}.lora_A.weight"] = torch.randn(4, inputs, generator=generator) * 0.2
            tensors[f"{name}.lora_B.weight"] = torch.randn(len(own), 4, generator=generator) * 0.2
            tensors[f"{name}.lora_B.bias"] = torch.randn(len(own), generator=generator) * 0.1
    write_tensors(comfyui.models / "loras" / "control.safetensors", tensors, {})
    return "control.safetensors"


def test_a_control_lora_widens_the_first_layer_and_sets_the_norms_as_the_stock_loader(comfyui):
    model = small_flux.flux()
    name = control(model, comfyui)
    mine = comfyui.nodes["CVL_LoadLoRA"]().load(name, 1.0, 0.0, model=model)["result"][0]
    theirs = stock(comfyui, model, (name, 1.0))
    assert mine.patches.keys() == theirs.patches.keys()
    expected, found = weights(theirs), weights(mine)
    assert found["diffusion_model.img_in.weight"].shape == (256, 128)
    assert all(torch.equal(found[key], own) for key, own in expected.items())
    assert weights(model)["diffusion_model.img_in.weight"].shape == (256, 64)


def test_a_control_lora_and_a_plain_one_are_their_sum_in_either_order(comfyui, file):  # noqa: F811
    model = small_flux.flux()
    name = control(model, comfyui)
    expected = weights(stock(comfyui, model, (file, 0.4), (name, 1.0)))
    for text in (f"{file} : 0.4\n{name}", f"{name}\n{file} : 0.4"):
        found = weights(comfyui.nodes["CVL_LoRAStack"]().load(text, model=model)["result"][0])
        assert all((found[key] - own).abs().max() <= 3e-7 * own.abs().max() for key, own in expected.items())
