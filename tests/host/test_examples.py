"""The examples for a user's own models, and those of version 0.1, on a real ComfyUI server.

The checkpoint is an SD 1.5 in small: one level of its U-Net, its text encoder and its VAE in full size, random.
"""

import json
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest
import torch

from clip_vae_lora.clip_core.config import TEXT_FAMILIES
from clip_vae_lora.clip_core.networks.text import CLIPText
from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL

from ..support.models import seeded
from ..support.servers.serving import ROOT, served

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"  # as the examples name it
SMALL = ("EmptyLatentImage.width=64", "EmptyLatentImage.height=64")
OLD = ROOT / "tests" / "data" / "workflows_0_1"


def unet() -> dict[str, torch.Tensor]:
    """The first level of SD 1.5's U-Net under its names, two thousandths of a picture's worth of knowledge."""
    import comfy.model_detection
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    return seeded(
        lambda: UNetModel(
            image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[1], channel_mult=(1,),
            transformer_depth=[1], transformer_depth_output=[1, 1], transformer_depth_middle=1, num_heads=8,
            context_dim=768, use_spatial_transformer=True, legacy=False, operations=comfy.ops.manual_cast,
        ),
        seed=3,
    )  # fmt: skip


def checkpoint(path: Path) -> None:
    parts = {
        "model.diffusion_model.": unet(),
        "cond_stage_model.transformer.": seeded(lambda: CLIPText(TEXT_FAMILIES["clip_l"]), 1),
        "first_stage_model.": seeded(lambda: AutoencoderKL(VAEConfig(128, (1, 2, 4, 4), 2, 4, True)), 2),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}, {})


@pytest.fixture(scope="module")
def server(comfyui, comfyui_path, tmp_path_factory):
    base = tmp_path_factory.mktemp("server")
    checkpoint(base / "models" / "checkpoints" / CHECKPOINT)
    with served(comfyui_path, base) as address:
        yield address


def run(path: Path, server: str, output: Path, *settings: str) -> dict:
    command = [sys.executable, str(ROOT / "headless" / "run.py"), str(path), "--output", str(output), "--json"]
    command += ["--server", server, *(word for setting in settings for word in ("--set", setting))]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def example(name: str, form: str) -> Path:
    return ROOT / "example_workflows" / ("api" if form == "api" else "") / f"{name}.json"


def steps(form: str, name: str) -> list[str]:
    """Two steps for every sampler."""
    nodes = json.loads(example(name, "api").read_text(encoding="utf-8"))
    return [f"{key}.steps=2" for key, node in nodes.items() if node["class_type"] == "KSampler"]


@pytest.mark.parametrize("form", ["canvas", "api"])
@pytest.mark.parametrize("name, pictures", [("own_prompt_lora", 1), ("own_best_of_8", 2), ("own_hires_decode", 1)])
def test_an_example_for_your_own_model_runs_with_any_sd_checkpoint(server, tmp_path, name, pictures, form):
    document = run(example(name, form), server, tmp_path, *SMALL, *steps(form, name))
    saved = [image for image in document["images"] if name in Path(image).name]
    assert len(saved) == pictures and all(Path(image).stat().st_size > 500 for image in saved)


@pytest.mark.parametrize("name", ["own_train_lora", "train_lora"])
def test_a_training_example_ends_in_pictures_and_a_file(server, tmp_path, name):
    nodes = json.loads(example(name, "api").read_text(encoding="utf-8"))
    (trainer,) = [key for key, node in nodes.items() if node["class_type"] == "CVL_TrainLoRA"]
    settings = {"folder": "examples", "subfolder": "striped things", "steps": 2, "resolution": 64}
    settings |= {"sample_prompt": "a striped star"}
    changes = [f"{trainer}.{key}={value}" for key, value in settings.items()]
    document = run(example(name, "api"), server, tmp_path, *SMALL, *changes, *steps("api", name))
    told = json.loads(document["outputs"][trainer]["cvl_report"][0])
    assert told["pictures"] == 20 and told["steps"] == 2 and document["outputs"][trainer]["images"]
    assert any("loras" in str(value) for value in told.values())
    assert len(document["images"]) > 1


@pytest.mark.parametrize("form", ["canvas", "api"])
@pytest.mark.parametrize("name, files", [("lora_workshop", 1), ("lora_extract", 1)])
def test_an_example_of_the_workshop_writes_its_file_and_judges_it(server, tmp_path, name, files, form):
    document = run(example(name, form), server, tmp_path)
    told = [json.loads(output["cvl_report"][0]) for output in document["outputs"].values() if "cvl_report" in output]
    written = [Path(report["file"]) for report in told if "file" in report and "size_bytes" in report]
    assert len(written) >= files and all(path.name.endswith(".safetensors") for path in written)


@pytest.mark.parametrize("form", ["canvas", "api"])
def test_the_inpainting_example_for_your_own_model_keeps_what_is_outside_the_mask(server, tmp_path, form):
    from PIL import Image

    picture = Image.new("RGBA", (96, 80), (200, 30, 60, 255))
    picture.paste((200, 30, 60, 0), (20, 20, 50, 50))  # what the mask editor makes: the mask is where alpha is not
    picture.save(tmp_path / "mine.png")
    settings = [f"LoadImage.image={tmp_path / 'mine.png'}", *steps(form, "own_inpaint")]
    document = run(example("own_inpaint", form), server, tmp_path / "out", *settings)
    (saved,) = [image for image in document["images"] if "own_inpaint" in Path(image).name]
    after = Image.open(saved).convert("RGB")
    assert after.size == (96, 80) and after.getpixel((0, 0)) == after.getpixel((90, 70)) == (200, 30, 60)
    assert after.getpixel((35, 35)) != (200, 30, 60)


@pytest.mark.parametrize("path", sorted((OLD / "api").glob("*.json")), ids=lambda path: path.stem)
def test_a_server_accepts_a_workflow_of_version_0_1(server, path):
    def post(route: str, body: dict):
        headers = {"Content-Type": "application/json"}
        return urllib.request.urlopen(urllib.request.Request(server + route, json.dumps(body).encode(), headers))

    body = {"prompt": json.loads(path.read_text(encoding="utf-8")), "prompt_id": str(uuid.uuid4())}
    with post("/prompt", body) as answer:
        said = json.load(answer)
    assert said["prompt_id"] and not said["node_errors"]
    post("/queue", {"clear": True}).close()
    post("/interrupt", {}).close()
