"""CVL_MergeLoRAs inside ComfyUI: the merged file at 1.0 is the stack, through the stock loader and ours."""

from collections.abc import Iterator

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors

from ...support import models
from .test_extract import merged

CLOSE = 1e-5  # of the change: factors in fp32, and fp32 sums of the weights
STRENGTHS = {"lora.safetensors": 0.8, "locon.safetensors": -0.5, "loha.safetensors": 1.0, "lokr.safetensors": 0.6}


@pytest.fixture(scope="module")
def sd15(comfyui):
    return models.sd15_model(context_dim=64)


def _weights(sd15) -> Iterator[tuple[str, torch.Size]]:
    """kohya's names of the model's layers, and their shapes."""
    import comfy.utils

    weights = sd15.model_state_dict()
    for theirs, ours in comfy.utils.unet_to_diffusers(sd15.model.model_config.unet_config).items():
        key = f"diffusion_model.{ours}"
        if key in weights and weights[key].ndim in (2, 4) and min(weights[key].shape[:2]) > 8:
            yield "lora_unet_" + theirs.removesuffix(".weight").replace(".", "_"), weights[key].shape


@pytest.fixture(scope="module")
def files(comfyui, sd15) -> dict[str, float]:
    """A file of each kind that adds, on the layers it is for, and their strengths."""
    draw = torch.Generator().manual_seed(6)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw) * 0.1

    tensors: dict[str, dict[str, torch.Tensor]] = {name: {} for name in STRENGTHS}
    for name, shape in _weights(sd15):
        out, inner, kernel = shape[0], shape[1], shape[2:]
        if len(shape) == 2:
            tensors["lora.safetensors"] |= {
                f"{name}.lora_up.weight": random(out, 4),
                f"{name}.lora_down.weight": random(4, inner),
            }
            tensors["lora.safetensors"][f"{name}.alpha"] = torch.tensor(2.0)
            halves = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
            tensors["loha.safetensors"] |= {
                f"{name}.{half}": 2 * (random(2, inner) if half.endswith("b") else random(out, 2)) for half in halves
            }
            tensors["lokr.safetensors"] |= {
                f"{name}.lokr_w1": random(2, 2),
                f"{name}.lokr_w2": random(out // 2, inner // 2),
            }
        else:
            ones = [1] * len(kernel)
            tensors["locon.safetensors"] |= {
                f"{name}.lora_up.weight": random(out, 2, *ones),
                f"{name}.lora_down.weight": random(2, inner, *kernel),
                f"{name}.alpha": torch.tensor(1.0),
            }
    for file, own in tensors.items():
        write_tensors(comfyui.models / "loras" / file, own, {})
    return STRENGTHS


@pytest.mark.parametrize("loader", ["CVL_LoadLoRA", "LoraLoaderModelOnly"])
def test_the_merged_file_at_strength_1_is_the_stack(comfyui, sd15, files, loader):
    nodes, stacked = comfyui.nodes, sd15
    for file, strength in files.items():
        (stacked,) = nodes["LoraLoaderModelOnly"]().load_lora_model_only(stacked, file, strength)
    before, wanted = merged(sd15), merged(stacked)
    lines = "\n".join(f"{file}: {strength}" for file, strength in files.items())
    settings = ("sum", "all", 32.0, "kohya", "fp32", "loras/merged")
    path, _, report = nodes["CVL_MergeLoRAs"]().merge(lines, *settings, model=sd15)["result"]
    target = comfyui.models / "loras" / f"merged {loader}.safetensors"
    target.write_bytes(open(path, "rb").read())
    node = nodes[loader]()
    if loader == "CVL_LoadLoRA":
        found = node.load(target.name, 1.0, 0.0, model=sd15)["result"][0]
    else:
        found = node.load_lora_model_only(sd15, target.name, 1.0)[0]
    after, lost, total = merged(found), 0.0, 0.0
    for key, weight in wanted.items():
        lost += (after[key].double() - weight.double()).square().sum().item()
        total += (weight.double() - before[key].double()).square().sum().item()
    assert total > 0
    assert lost**0.5 <= CLOSE * total**0.5, report
