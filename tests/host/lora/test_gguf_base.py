"""LoRAs on GGUF models of city96's node pack, beside the stock loader: the same places, the same pictures.

The pack is the folder in CVL_GGUF_PATH, or ComfyUI-GGUF in the host's custom_nodes.
"""

import asyncio
import json
import os
from pathlib import Path

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors

from ...support.loras.small_flux import lora_of

STACK = 1e-6  # of the largest output: sums of a few hundred products in another order


@pytest.fixture(scope="module")
def pack(comfyui, comfyui_path):
    import nodes

    path = Path(os.environ.get("CVL_GGUF_PATH") or comfyui_path / "custom_nodes" / "ComfyUI-GGUF")
    if not path.is_dir():
        pytest.skip("needs the node pack ComfyUI-GGUF: set CVL_GGUF_PATH to its folder")
    pytest.importorskip("gguf")
    assert asyncio.run(nodes.load_custom_node(str(path)))
    return nodes.NODE_CLASS_MAPPINGS["UnetLoaderGGUF"]


def wan_state() -> dict[str, torch.Tensor]:
    from comfy.ldm.wan.model import WanModel

    network = WanModel(
        model_type="t2v", patch_size=(1, 2, 2), in_dim=16, dim=256, ffn_dim=512, out_dim=16, text_dim=4096,
        num_heads=2, num_layers=2, operations=torch.nn, device="cpu", dtype=torch.float32,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(own.shape, generator=generator) * 0.05 for name, own in network.state_dict().items()}


@pytest.fixture(scope="module", params=["Q8_0", "Q4_0"])
def model(comfyui, pack, request):
    import gguf

    kind = gguf.GGMLQuantizationType[request.param]
    path = comfyui.models / "diffusion_models" / f"wan_{request.param}.gguf"
    writer = gguf.GGUFWriter(str(path), "wan")
    for name, own in wan_state().items():
        if own.ndim == 2 and name.startswith("blocks."):
            writer.add_tensor(name, gguf.quants.quantize(own.numpy(), kind), raw_dtype=kind)
            continue
        if own.ndim > 4:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(own.shape))
            own = own.flatten(1)
        writer.add_tensor(name, own.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (model,) = pack().load_unet(path.name)
    shapes = {
        f"diffusion_model.{name}": tuple(own.shape) for name, own in wan_state().items() if name.startswith("blocks.")
    }
    write_tensors(comfyui.models / "loras" / "wan.safetensors", lora_of(shapes), {})
    return model


def output(patcher) -> torch.Tensor:
    import comfy.model_management as management

    generator = torch.Generator().manual_seed(1)
    latent, text = (torch.randn(shape, generator=generator) for shape in ((1, 16, 1, 8, 8), (1, 12, 4096)))
    management.unload_all_models()
    management.load_models_gpu([patcher], force_full_load=True)
    found = patcher.model.diffusion_model(latent, torch.tensor([500.0]), context=text)
    management.unload_all_models()
    return found


def stock(comfyui, model, *strengths):
    for strength in strengths:
        (model,) = comfyui.nodes["LoraLoaderModelOnly"]().load_lora_model_only(model, "wan.safetensors", strength)
    return model


def test_one_file_makes_the_picture_that_the_stock_loader_makes(comfyui, model):
    theirs = stock(comfyui, model, 0.8)
    mine = comfyui.nodes["CVL_LoadLoRA"]().load("wan.safetensors", 0.8, 0.0, model=model)["result"][0]
    assert mine.patches.keys() == theirs.patches.keys() and len(mine.patches) == 20
    assert torch.equal(output(mine), output(theirs)) and not torch.equal(output(mine), output(model))


def test_a_stack_makes_the_picture_of_the_stock_chain(comfyui, model):
    text = "wan.safetensors : 0.8\nwan.safetensors : -0.3"
    mine = output(comfyui.nodes["CVL_LoRAStack"]().load(text, model=model)["result"][0])
    theirs = output(stock(comfyui, model, 0.8, -0.3))
    assert (mine - theirs).abs().max() <= STACK * theirs.abs().max()


def test_the_report_measures_blocks_unpacked_and_says_that_all_is_applied(comfyui, model):
    answer = comfyui.nodes["CVL_LoadLoRA"]().load("wan.safetensors", 0.8, 0.0, model=model)
    report = json.loads(answer["result"][2])
    assert report["applied"] == 20 and report["not_measured"] == 0
    told = report["rounding"]["model"]
    assert told["stored_as"].startswith("GGUF Q") and told["asked"] == told["applied"] and told["arrived"] == 1.0
    assert report["change"] == pytest.approx(told["asked"], rel=0.25)
    info = comfyui.nodes["CVL_LoRAInfo"]()
    measured = json.loads(getattr(info, info.FUNCTION)("wan.safetensors", model=model)["result"][0])
    assert measured["change"] == pytest.approx(report["change"] / 0.8, rel=0.1)
