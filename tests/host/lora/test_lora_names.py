"""Every module name that ComfyUI's own LoRA maps know leads to the same weight in ours.

Needs a real ComfyUI: set COMFYUI_PATH to its folder. The maps are asked in a process of its own, so that the host's
top-level modules do not meet this project's.
"""

import json
import subprocess
import sys

import pytest

from clip_vae_lora.lora.models.names import name_map

UNETS = {
    "SD15": {
        "model_channels": 320,
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "context_dim": 768,
        "use_linear_in_transformer": False,
        "num_heads": 8,
        "num_head_channels": -1,
    },
    "SDXL": {
        "model_channels": 320,
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
        "context_dim": 2048,
        "use_linear_in_transformer": True,
        "num_head_channels": 64,
        "adm_in_channels": 2816,
        "num_classes": "sequential",
    },
}
TEXTS = {
    "SD15": {"clip_l": (12, 768)},
    "SDXL": {"clip_l": (12, 768), "clip_g": (32, 1280)},
    "SD2": {"clip_h": (24, 1024)},
    "refiner": {"clip_g": (32, 1280)},
}

SCRIPT = """
import json, sys
host, unets, texts = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
sys.argv = ["host", "--cpu"]
sys.path.insert(0, host)
import torch
import comfy.options
comfy.options.enable_args_parsing()
import comfy.clip_model, comfy.lora, comfy.model_base, comfy.ops
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

class Model:
    def __init__(self, keys, config=None):
        self.keys, self.model_config = keys, type("Config", (), {"unet_config": config})
    def state_dict(self):
        return dict.fromkeys(self.keys)

out = {}
with torch.device("meta"):
    for name, config in unets.items():
        extra = {"num_res_blocks": [2] * len(config["channel_mult"]), "in_channels": 4, "out_channels": 4,
                 "image_size": 32, "use_spatial_transformer": True, "legacy": False}
        unet = UNetModel(**config, **extra, operations=comfy.ops.disable_weight_init)
        keys = ["diffusion_model." + key for key in unet.state_dict()]
        out[name] = [keys, comfy.lora.model_lora_keys_unet(Model(keys, config | extra), {})]
for name, parts in texts.items():
    keys = []
    for part, (layers, width) in parts.items():
        text = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": width // 64,
                "intermediate_size": 4 * width, "hidden_act": "gelu", "max_position_embeddings": 77,
                "eos_token_id": 49407, "vocab_size": 49408}
        with torch.device("meta"):
            model = comfy.clip_model.CLIPTextModel(text, None, "meta", comfy.ops.disable_weight_init)
        keys += [f"{part}.transformer.{key}" for key in model.state_dict()] + [f"{part}.logit_scale"]
    out["text " + name] = [keys, comfy.lora.model_lora_keys_clip(Model(keys), {})]
print("RESULT" + json.dumps(out))
"""


@pytest.fixture(scope="module")
def host_maps(comfyui_path):
    host = str(comfyui_path)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, host, json.dumps(UNETS), json.dumps(TEXTS)],
        cwd=host,
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("RESULT"))


@pytest.mark.parametrize("layout", [*UNETS, *(f"text {name}" for name in TEXTS)])
def test_every_name_of_the_host_means_the_same_weight_here(layout, host_maps):
    keys, theirs = host_maps[layout]
    ours = name_map(keys)
    theirs = {name: key for name, key in theirs.items() if key in set(keys)}
    assert len(theirs) > 72
    assert {name: ours.get(name) for name in theirs} == theirs
