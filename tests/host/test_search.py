"""Index and search inside ComfyUI: its folders, its types, its order of execution."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "example_workflows" / "input"


@pytest.fixture(scope="module")
def clip_model(comfyui):
    return comfyui.nodes["CVL_LoadCLIPModel"]().load("bundled/tiny_clip.safetensors")["result"][0]


def test_a_folder_below_output_is_indexed_and_searched(comfyui, clip_model):
    folder = comfyui.base / "output" / "shapes"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("red_circle.png", "blue_star.png"):
        shutil.copy(EXAMPLES / name, folder)
    report = json.loads(
        comfyui.nodes["CVL_IndexFolder"]().build(clip_model, "output", "shapes", "host test")["result"][1]
    )
    assert report["rows"] == 2 and (comfyui.base / "output" / "cvl_index" / "host test" / "index.sqlite").is_file()
    found = comfyui.nodes["CVL_SearchImages"]().search(clip_model, "host test", "a photo of a blue star", 1)
    name = found["result"][1]
    assert name == "shapes/blue_star.png [output]"
    image, _ = comfyui.nodes["LoadImage"]().load_image(name)
    assert (found["result"][0] == image).all()


@pytest.mark.parametrize("kind, taken", [("LATENT", True), ("IMAGE", True), ("VAE", True)])
def test_anything_may_come_before_and_a_wrong_model_may_not(comfyui, kind, taken):
    ask = comfyui.nodes["CVL_IndexFolder"].VALIDATE_INPUTS
    assert ask({"clip_model": "CVL_CLIP_MODEL", "after": kind}) is taken
    assert isinstance(ask({"clip_model": kind}), str)


def test_the_host_accepts_the_example_and_a_link_of_any_kind_before_it(comfyui):
    import execution

    prompt = json.loads((EXAMPLES.parent / "api" / "search.json").read_text(encoding="utf-8"))
    prompt["20"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    prompt["7"]["inputs"]["after"] = ["20", 0]
    valid, error, outputs, problems = asyncio.run(execution.validate_prompt("1", prompt, None))
    assert valid and not problems and {"7", "8", "9", "10", "11"} <= set(outputs)
    prompt["7"]["inputs"]["clip_model"] = ["20", 0]
    valid, error, outputs, problems = asyncio.run(execution.validate_prompt("1", prompt, None))
    assert "LATENT is linked" in json.dumps(problems["7"])
