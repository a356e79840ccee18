"""CVL_LoadLoRA beside LoraLoader: the same weights, and the original's bits untouched."""

import json

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors

from ...support import models

RELATIVE = 1e-6  # both add the product of the factors in fp32; a rounding of the last bit is left


@pytest.fixture(scope="module")
def sd15(comfyui):
    return models.sd15_model(context_dim=64)


@pytest.fixture(scope="module")
def clip(comfyui):
    models.text_encoder(comfyui.models / "text_encoders" / "lora_l.safetensors", "clip_l", seed=1)
    return comfyui.nodes["CVL_LoadTextEncoder"]().load("lora_l.safetensors", dtype="fp32")["result"][0]


@pytest.fixture(scope="module")
def lora_file(comfyui, sd15, clip):
    """A kohya file for every attention, feed-forward and convolution of the MODEL, and for the text encoder; alpha
    != rank.
    """
    generator = torch.Generator().manual_seed(4)
    tensors = {}

    def add(name, shape, rank=4):
        kernel = shape[2:]
        tensors[f"{name}.lora_up.weight"] = torch.randn(shape[0], rank, *[1] * len(kernel), generator=generator)
        tensors[f"{name}.lora_down.weight"] = torch.randn(rank, *shape[1:], generator=generator)
        tensors[f"{name}.alpha"] = torch.tensor(2.0)

    import comfy.utils

    diffusers = comfy.utils.unet_to_diffusers(sd15.model.model_config.unet_config)
    weights = sd15.model_state_dict()
    for theirs, ours in diffusers.items():
        key = f"diffusion_model.{ours}"
        if key.endswith(".weight") and key in weights and weights[key].ndim in (2, 4):
            add("lora_unet_" + theirs.removesuffix(".weight").replace(".", "_"), weights[key].shape)
    for name, weight in clip.patcher.model_state_dict().items():
        if "encoder.layers" in name and weight.ndim == 2:
            inner = name.removeprefix("clip_l.transformer.").removesuffix(".weight")
            add("lora_te_" + inner.replace(".", "_"), weight.shape)
    write_tensors(comfyui.models / "loras" / "whole.safetensors", tensors, {"ss_network_module": "networks.lora"})
    return "whole.safetensors", len(tensors) // 3


def merged(patcher) -> dict[str, torch.Tensor]:
    """The weights as they are while the model runs."""
    import comfy.model_management as management

    management.unload_all_models()
    management.load_models_gpu([patcher], force_patch_weights=True, force_full_load=True)
    state = {name: weight.clone() for name, weight in patcher.model.state_dict().items()}
    management.unload_all_models()
    return state


def test_patched_weights_equal_the_stock_loaders_and_unpatched_ones_are_the_old_bits(comfyui, sd15, clip, lora_file):
    name, modules = lora_file
    before = [{k: v.clone() for k, v in p.model.state_dict().items()} for p in (sd15, clip.patcher)]
    stock_model, stock_clip = comfyui.nodes["LoraLoader"]().load_lora(sd15, clip, name, 0.8, 0.5)
    answer = comfyui.nodes["CVL_LoadLoRA"]().load(name, 0.8, 0.5, model=sd15, clip=clip)
    our_model, our_clip, report, _, _ = answer["result"]
    for stock, mine in ((stock_model, our_model), (stock_clip.patcher, our_clip.patcher)):
        theirs, ours = merged(stock), merged(mine)
        for key, weight in theirs.items():
            apart = (weight - ours[key]).abs().max() / weight.abs().max().clamp(min=1e-12)
            assert apart <= RELATIVE, key
    after = merged(our_model)
    changed = sum(not torch.equal(after[k], v) for k, v in before[0].items())
    assert changed > 200
    for patcher, old in zip((sd15, clip.patcher), before):
        assert all(torch.equal(v, old[k]) for k, v in patcher.model.state_dict().items())
    assert f'"applied": {modules}' in report


def test_a_lora_that_fits_nothing_is_told_and_with_strict_an_error(comfyui, clip):
    pair = {
        "lora_unet_nowhere.lora_up.weight": torch.ones(4, 2),
        "lora_unet_nowhere.lora_down.weight": torch.ones(2, 4),
    }
    write_tensors(comfyui.models / "loras" / "stranger.safetensors", pair, {})
    load = comfyui.nodes["CVL_LoadLoRA"]().load
    answer = load("stranger.safetensors", 1.0, 1.0, clip=clip)
    assert answer["result"][1] is clip
    report = json.loads(answer["result"][2])
    assert report["applied"] == 0 and report["state"] == "failed"
    assert "stranger.safetensors" in answer["ui"]["text"][0]
    with pytest.raises(ValueError, match="stranger.safetensors"):
        load("stranger.safetensors", 1.0, 1.0, clip=clip, strict=True)


def test_the_stock_lora_loader_patches_our_clip_model_objects_text_side(comfyui, clip, lora_file):
    _, patched = comfyui.nodes["LoraLoader"]().load_lora(None, clip, lora_file[0], 1.0, 1.0)
    text = "a photo of a cat"
    plain, changed = (comfyui.nodes["CLIPTextEncode"]().encode(clip=c, text=text)[0][0][0] for c in (clip, patched))
    again = comfyui.nodes["CLIPTextEncode"]().encode(clip=clip, text=text)[0][0][0]
    assert not torch.equal(plain, changed) and torch.equal(plain, again)


def test_a_stack_of_three_equals_three_stock_loaders_in_a_row(comfyui, sd15, clip, lora_file):
    name, modules = lora_file
    strengths = [(0.8, 0.5), (-0.3, 0.0), (0.2, 1.0)]
    stock = (sd15, clip)
    for pair in strengths:
        stock = comfyui.nodes["LoraLoader"]().load_lora(*stock, name, *pair)
    text = "\n".join(f"{name} : {model} : {text}" for model, text in strengths)
    our_model, our_clip, report, *_ = comfyui.nodes["CVL_LoRAStack"]().load(text, model=sd15, clip=clip)["result"]
    for theirs, ours in ((stock[0], our_model), (stock[1].patcher, our_clip.patcher)):
        theirs, ours = merged(theirs), merged(ours)
        assert all((w - ours[k]).abs().max() <= RELATIVE * w.abs().max() for k, w in theirs.items())
    assert all(len(patches) == 1 for patches in our_model.patches.values())
    assert report.count(f'"applied": {modules}') == 3
