"""A real ComfyUI in this process: needs COMFYUI_PATH, the folder of a ComfyUI checkout whose requirements are
installed.

The pack is loaded a second time, the way ComfyUI loads it, so that here it chooses ComfyUI as its host.
"""

import asyncio
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ..support import models

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def comfyui_path() -> Path:
    """The checkout's folder; the test skips where none is named."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        pytest.skip("needs a real ComfyUI: set COMFYUI_PATH to its folder")
    return Path(path)


@pytest.fixture(scope="session")
def comfyui(comfyui_path, tmp_path_factory):
    """ComfyUI imported, its stock nodes and ours registered: `.nodes` (id: class), `.ours` (our package), `.models`
    (folder).
    """
    base = tmp_path_factory.mktemp("comfyui")
    for folder in (
        "text_encoders",
        "checkpoints",
        "vae",
        "loras",
        "vae_approx",
        "clip_vision",
        "diffusion_models",
        "embeddings",
    ):
        (base / "models" / folder).mkdir(parents=True)
    (base / "custom_nodes").mkdir()
    before = sys.argv
    sys.argv = ["main.py", "--cpu", "--base-directory", str(base), "--disable-api-nodes"]
    sys.path.insert(0, str(comfyui_path))
    import comfy.options

    comfy.options.enable_args_parsing()
    import utils.extra_config  # noqa: F401  before `nodes`, which puts comfy/ on sys.path, where another `utils` lies

    import nodes

    sys.argv = before
    asyncio.run(nodes.init_builtin_extra_nodes())
    assert asyncio.run(nodes.load_custom_node(str(ROOT))), "ComfyUI could not import the pack"
    ours = sys.modules[str(ROOT).replace(".", "_x_")]
    with torch.inference_mode():  # as ComfyUI runs every node
        yield SimpleNamespace(nodes=nodes.NODE_CLASS_MAPPINGS, ours=ours, models=base / "models", base=base)


@pytest.fixture(scope="session")
def vaes(comfyui):
    """(stock VAE, our VAE) from one SD1 file."""
    models.sd1_vae(comfyui.models / "vae" / "sd1.safetensors", seed=1)
    (stock,) = comfyui.nodes["VAELoader"]().load_vae("sd1.safetensors")
    ours = comfyui.nodes["CVL_LoadVAE"]().load("sd1.safetensors", dtype="fp32")["result"][0]
    return stock, ours
