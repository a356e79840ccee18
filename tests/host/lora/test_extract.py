"""CVL_ExtractLoRA inside ComfyUI: what is extracted gives the tuned model back, through the stock loader and ours."""

import json
from pathlib import Path

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors

from ...support import models

CLOSE = 1e-5  # of the change: factors in fp32, and fp32 sums of the weights


@pytest.fixture(scope="module")
def sd15(comfyui):
    return models.sd15_model(context_dim=64)


@pytest.fixture(scope="module")
def tuned(comfyui, sd15):
    """The MODEL with a LoRA of rank 3 on attentions and convolutions."""
    import comfy.utils

    draw, tensors = torch.Generator().manual_seed(4), {}
    weights = sd15.model_state_dict()
    for theirs, ours in comfy.utils.unet_to_diffusers(sd15.model.model_config.unet_config).items():
        key = f"diffusion_model.{ours}"
        if (
            key.endswith(".weight")
            and key in weights
            and weights[key].ndim in (2, 4)
            and min(weights[key].shape[:2]) > 8
        ):
            name, shape = "lora_unet_" + theirs.removesuffix(".weight").replace(".", "_"), weights[key].shape
            tensors[f"{name}.lora_up.weight"] = torch.randn(shape[0], 3, *[1] * (len(shape) - 2), generator=draw) * 0.1
            tensors[f"{name}.lora_down.weight"] = torch.randn(3, *shape[1:], generator=draw) * 0.1
    write_tensors(comfyui.models / "loras" / "extract_me.safetensors", tensors, {})
    answer = comfyui.nodes["CVL_LoadLoRA"]().load("extract_me.safetensors", 0.7, 0.0, model=sd15)
    return answer["result"][0], len(tensors) // 2


def merged(patcher) -> dict[str, torch.Tensor]:
    """The weights as they are while the model runs."""
    import comfy.model_management as management

    management.unload_all_models()
    management.load_models_gpu([patcher], force_patch_weights=True, force_full_load=True)
    state = {name: weight.clone() for name, weight in patcher.model.state_dict().items()}
    management.unload_all_models()
    return state


def extracted(comfyui, tuned, base):
    settings = ("automatic", 4.0, 16, "kohya", "fp32", "loras/extracted")
    answer = comfyui.nodes["CVL_ExtractLoRA"]().extract("none", "none", *settings, model_tuned=tuned, model_base=base)
    return Path(answer["result"][0]), json.loads(answer["result"][1])


@pytest.mark.parametrize("loader", ["CVL_LoadLoRA", "LoraLoaderModelOnly"])
def test_a_model_minus_another_at_strength_1_gives_the_tuned_model_back(comfyui, sd15, tuned, loader):
    model, count = tuned
    before, wanted = merged(sd15), merged(model)
    path, report = extracted(comfyui, model, sd15)
    assert report["ranks"][0] == 3 and report["weights"] == count and not report["left_out"]
    target = comfyui.models / "loras" / f"{loader}.safetensors"
    target.write_bytes(path.read_bytes())
    node = comfyui.nodes[loader]()
    if loader == "CVL_LoadLoRA":
        found = node.load(target.name, 1.0, 0.0, model=sd15)["result"][0]
    else:
        found = node.load_lora_model_only(sd15, target.name, 1.0)[0]
    after, lost, total = merged(found), 0.0, 0.0
    for key, weight in wanted.items():
        lost += (after[key].double() - weight.double()).square().sum().item()
        total += (weight.double() - before[key].double()).square().sum().item()
    assert lost**0.5 <= (report["error"] + CLOSE) * total**0.5
    assert report["error"] < 1e-3


def test_the_original_keeps_its_bits_and_equal_models_are_refused(comfyui, sd15, tuned):
    before = merged(sd15)
    extracted(comfyui, tuned[0], sd15)
    assert all(torch.equal(weight, before[key]) for key, weight in merged(sd15).items())
    with pytest.raises(ValueError, match="the two models are equal"):
        extracted(comfyui, sd15, sd15)


def test_a_text_encoder_minus_another_at_strength_1_gives_the_tuned_one_back(comfyui):
    models.text_encoder(comfyui.models / "text_encoders" / "extract_l.safetensors", "clip_l", seed=1)
    clip = comfyui.nodes["CVL_LoadTextEncoder"]().load("extract_l.safetensors", dtype="fp32")["result"][0]
    draw, tensors = torch.Generator().manual_seed(8), {}
    for name, weight in clip.patcher.model_state_dict().items():
        if "encoder.layers.3." in name and weight.ndim == 2:
            module = "lora_te_" + name.removeprefix("clip_l.transformer.").removesuffix(".weight").replace(".", "_")
            tensors[f"{module}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=draw) * 0.1
            tensors[f"{module}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=draw) * 0.1
    write_tensors(comfyui.models / "loras" / "extract_text.safetensors", tensors, {})
    loader = comfyui.nodes["LoraLoader"]()
    stock = loader.load_lora(None, clip, "extract_text.safetensors", 0.0, 0.6)[1]
    before, wanted = merged(clip.patcher), merged(stock.patcher)
    settings = ("automatic", 4.0, 16, "kohya", "fp32", "loras/extracted_text")
    node = comfyui.nodes["CVL_ExtractLoRA"]()
    path, report, _ = node.extract("none", "none", *settings, clip_tuned=stock, clip_base=clip)["result"]
    report = json.loads(report)
    assert report["ranks"] == [2, 2] and report["weights"] == len(tensors) // 2 == 6 and not report["left_out"]
    (comfyui.models / "loras" / "text_back.safetensors").write_bytes(Path(path).read_bytes())
    after = merged(comfyui.nodes["LoraLoader"]().load_lora(None, clip, "text_back.safetensors", 0.0, 1.0)[1].patcher)
    lost = sum((after[key].double() - own.double()).square().sum().item() for key, own in wanted.items())
    total = sum((own.double() - before[key].double()).square().sum().item() for key, own in wanted.items())
    assert total > 0 and lost**0.5 <= (report["error"] + CLOSE) * total**0.5 and report["error"] < 1e-3
