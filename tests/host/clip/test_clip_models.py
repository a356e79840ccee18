"""Whole CLIPs in a real ComfyUI: a ResNet in OpenAI's archive, its weights kept in half precision, and a LoRA on it."""

import json

import pytest
import torch

from clip_vae_lora.clip_core.config import CLIPConfig, ResNetConfig, TextConfig
from clip_vae_lora.clip_core.features.pictures import image_features
from clip_vae_lora.clip_core.features.texts import text_features
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.tokenizer import Tokenizer
from clip_vae_lora.files.tensors import write_tensors

from ...support.files.archives import write_archive

CONFIG = CLIPConfig(TextConfig(64, 2, 1, 256, 32, activation="quick_gelu"), ResNetConfig(8, (1, 2, 1, 1), 4, 64, 32))
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")


def seeded() -> dict[str, torch.Tensor]:
    generator, state = torch.Generator().manual_seed(5), {}
    for name, tensor in CLIP(CONFIG).state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator) * 0.05
        if name.endswith("running_var"):
            noise = noise.abs() + 0.1
        state[name] = noise + (tensor.ndim == 1 and name.endswith("weight"))
    halves = {name: tensor.half() for name, tensor in state.items()}  # so that they lose nothing in fp16
    return {name: tensor if tensor.ndim > 1 else tensor.float() for name, tensor in halves.items()}


@pytest.fixture(scope="module")
def archive(comfyui):
    return write_archive(comfyui.models / "clip_vision" / "RN.pt", seeded())


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_resnet_gives_in_comfyui_what_it_gives_alone(comfyui, archive, dtype):
    """Halves or not: activations are float32, so the same numbers come out."""
    model, report = comfyui.nodes["CVL_LoadCLIPModel"]().load(archive.name, dtype=dtype, heads=4)["result"][:2]
    assert json.loads(report)["vision"]["blocks"] == [1, 2, 1, 1]
    image = torch.rand(2, 90, 70, 3, generator=torch.Generator().manual_seed(0))
    node = comfyui.nodes["CVL_ZeroShotClassify"]()
    found = json.loads(node.classify(model, image, "cat\ndog\ntree", "a photo of a {label}")["result"][1])
    alone, labels = CLIP(CONFIG).eval(), ["cat", "dog", "tree"]
    alone.load_state_dict(seeded())
    texts = text_features(alone, Tokenizer(), [f"a photo of a {label}" for label in labels]).features
    expected = (image_features(alone, image) @ texts.T).tolist()
    for cosines, picture in zip(expected, found["pictures"]):
        assert [picture["cosine"][label] for label in labels] == pytest.approx(cosines, abs=2e-6)  # 6 decimals


def test_a_lora_patches_a_resnets_convolution_and_leaves_the_original(comfyui, archive):
    model = comfyui.nodes["CVL_LoadCLIPModel"]().load(archive.name, heads=4)["result"][0]
    up, down = torch.full((256, 2, 1, 1), 0.1), torch.full((2, 64, 1, 1), 0.1)
    tensors = {"visual.layer4.0.conv3.lora_B.weight": up, "visual.layer4.0.conv3.lora_A.weight": down}
    write_tensors(comfyui.models / "loras" / "rn.safetensors", tensors, {})
    changed = comfyui.nodes["CVL_LoadLoRA"]().load("rn.safetensors", 1.0, 1.0, clip_model=model)["result"][3]
    image, words = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0)), ("cat\ndog", "a {label}")
    node = comfyui.nodes["CVL_ZeroShotClassify"]()
    first, second, again = (node.classify(of, image, *words)["result"][1] for of in (model, changed, model))
    assert first != second and first == again
