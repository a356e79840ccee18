"""Train LoRA in a real ComfyUI: from a folder to a file, cancelled and gone on with; the file in the stock loader."""

from pathlib import Path

import pytest
import torch

from clip_vae_lora.files.images import write_png
from clip_vae_lora.training.scenes.captions import describe
from clip_vae_lora.training.scenes.drawing import draw
from clip_vae_lora.training.scenes.scene import random_scenes

from ...support import models


@pytest.fixture(scope="module")
def pictures(comfyui) -> str:
    import folder_paths

    generator = torch.Generator().manual_seed(5)
    scenes = random_scenes(6, generator)
    folder = Path(folder_paths.get_input_directory()) / "striped"
    folder.mkdir(parents=True)
    for number, (picture, caption) in enumerate(zip(draw(scenes, 64, generator), describe(scenes))):
        wide = torch.cat([picture, picture], 2) if number == 5 else picture
        write_png(folder / f"p{number}.png", wide.permute(1, 2, 0), {})
        if number:
            (folder / f"p{number}.txt").write_text(caption)
    (folder / "broken.png").write_bytes(b"no picture")
    return "striped"


@pytest.fixture(scope="module")
def parts(comfyui):
    nodes = comfyui.nodes
    clip = nodes["CVL_LoadTextEncoder"]().load("bundled/tiny_clip.safetensors")["result"][0]
    vae = nodes["CVL_LoadVAE"]().load("bundled/tiny_vae.safetensors")["result"][0]
    return models.sd15_model(context_dim=64), clip, vae


def _train(comfyui, parts, pictures: str, name: str, **more) -> tuple:
    model, clip, vae = parts
    settings = {
        "folder": "input",
        "subfolder": pictures,
        "steps": 4,
        "rank": 4,
        "learning_rate": 1e-2,
        "resolution": 64,
        "trigger": "sks",
        "seed": 7,
        "filename_prefix": f"loras/{name}",
        "batch": 2,
    }
    answer = comfyui.nodes["CVL_TrainLoRA"]().train(model, clip, vae, **(settings | more))
    return answer["result"], answer["ui"]


def _sampled(comfyui, parts, model) -> torch.Tensor:
    prompt = comfyui.nodes["CLIPTextEncode"]().encode(parts[1], "sks, a red circle")[0]
    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    return comfyui.nodes["KSampler"]().sample(model, 5, 2, 1.0, "euler", "normal", prompt, prompt, latent)[0]["samples"]


def test_the_file_in_the_stock_loader_is_our_model(comfyui, parts, pictures):
    import json
    import shutil

    (model, path, report, _), ui = _train(comfyui, parts, pictures, "first")
    data = json.loads(report)
    assert data["pictures"] == 6 and data["unused"].keys() == {"broken.png"}
    assert data["without_caption"] == ["p0.png"] and data["sizes"] == {"64 x 64": 5, "96 x 32": 1}
    assert data["without_name"] == {} and len(data["losses"]) == 4 and len(data["held_out"]) == 1
    assert "broken.png" in ui["text"][0]
    shutil.copy(path, comfyui.models / "loras" / "first.safetensors")
    (stock,) = comfyui.nodes["LoraLoaderModelOnly"]().load_lora_model_only(parts[0], "first.safetensors", 1.0)
    ours, theirs, plain = (_sampled(comfyui, parts, one) for one in (model, stock, parts[0]))
    assert (ours - plain).norm() > 1e-4 * plain.norm()  # noise of sigma 14 is most of it
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()  # float32


@pytest.mark.parametrize(
    ("kind", "optimiser", "marks"),
    [
        ("LoCon", "Adafactor", ()),
        ("DoRA", "AdamW", ("dora_scale",)),
        ("LoKr", "schedule-free AdamW", ("lokr_w1", "lokr_w2_a", "lokr_w2_b")),
    ],
)
def test_every_kind_in_the_stock_loader_is_our_model(comfyui, parts, pictures, kind, optimiser, marks):
    """The file's names are kohya's, its convolutions have four dimensions, and the stock loader makes of it what ours
    makes: 1e-6 of the whole answer, float32.
    """
    import shutil

    from safetensors.torch import load_file

    more = {"kind": kind, "optimiser": optimiser, "steps": 3, "checkpointing": "on"}
    (model, path, _, _), _ = _train(comfyui, parts, pictures, f"kind_{kind}", **more)
    tensors = load_file(path)
    assert all(name.startswith("lora_unet_") for name in tensors)
    assert all(any(name.endswith(mark) for name in tensors) for mark in marks)
    assert any(one.ndim == 4 and one.shape[-1] == 3 for one in tensors.values()) == (kind == "LoCon")
    shutil.copy(path, comfyui.models / "loras" / f"{kind}.safetensors")
    (stock,) = comfyui.nodes["LoraLoaderModelOnly"]().load_lora_model_only(parts[0], f"{kind}.safetensors", 1.0)
    ours, theirs, plain = (_sampled(comfyui, parts, one) for one in (model, stock, parts[0]))
    assert (ours - plain).norm() > 1e-4 * plain.norm()
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


def test_a_cancelled_training_leaves_a_file_and_goes_on_to_the_same_bits(comfyui, parts, pictures, monkeypatch):
    import comfy.model_management as management
    from safetensors.torch import load_file

    (_, whole, _, _), _ = _train(comfyui, parts, pictures, "whole")
    course, steps = comfyui.ours.training.lora.course.Course, []
    loss = course.loss
    monkeypatch.setattr(course, "loss", lambda *given: steps.append(1) or loss(*given))

    def interrupted() -> None:
        if len(steps) == 2:
            raise management.InterruptProcessingException()

    monkeypatch.setattr(management, "throw_exception_if_processing_interrupted", interrupted)
    with pytest.raises(management.InterruptProcessingException):
        _train(comfyui, parts, pictures, "again")
    monkeypatch.undo()
    folder = Path(whole).parent
    (early,) = folder.glob("again_*.safetensors")
    assert load_file(early)
    (_, path, _, _), _ = _train(comfyui, parts, pictures, "again", resume=True)
    first, second = load_file(whole), load_file(path)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"subfolder": "nowhere"}, "there is no folder"),
        ({"blocks": "nothing:0"}, "nothing"),
        ({"resolution": 16}, "at least 32 px"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(comfyui, parts, pictures, change, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        _train(comfyui, parts, pictures, "odd", **change)


TINY_PACK = """
import importlib.util
spec = importlib.util.spec_from_file_location("tiny_models", {path!r})
models = importlib.util.module_from_spec(spec)
spec.loader.exec_module(models)

class TinySD:
    RETURN_TYPES, FUNCTION = ("MODEL",), "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {{"required": {{}}}}

    def load(self):
        return (models.sd15_model(context_dim=64),)

NODE_CLASS_MAPPINGS = {{"TinySD": TinySD}}
"""
LOADERS = {
    "1": {"class_type": "TinySD", "inputs": {}},
    "2": {"class_type": "CVL_LoadTextEncoder", "inputs": {"file": "bundled/tiny_clip.safetensors"}},
    "3": {"class_type": "CVL_LoadVAE", "inputs": {"file": "bundled/tiny_vae.safetensors"}},
    "4": {"class_type": "CVL_TrainLoRA", "inputs": {"model": ["1", 0], "clip": ["2", 0], "vae": ["3", 0]}},
}


def test_the_command_runs_the_nodes_plan_in_an_installed_comfyui_to_the_same_bits(
    comfyui, comfyui_path, parts, pictures, tmp_path
):
    import os
    import shutil
    import subprocess
    import sys

    from safetensors.torch import load_file

    pack = comfyui.base / "custom_nodes" / "tiny_sd"
    pack.mkdir(exist_ok=True)
    (pack / "__init__.py").write_text(TINY_PACK.format(path=models.__file__))
    (_, path, _, _), _ = _train(comfyui, parts, pictures, "planned", prompt=LOADERS, unique_id="4")
    plan = tmp_path / "plan.toml"
    shutil.copy(Path(path).parents[1] / "cvl_training" / "planned.plan.toml", plan)
    script = Path(__file__).resolve().parents[3] / "headless" / "train.py"
    there = ["--comfyui", str(comfyui_path), "--comfyui-args", f"--base-directory {comfyui.base} --disable-api-nodes"]
    done = subprocess.run(
        [sys.executable, str(script), "lora", str(plan), *there, "--output", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "out" / "loras").glob("planned_*.safetensors")
    assert f"{made.name}: rank 4" in done.stdout
    first, second = load_file(path), load_file(made)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
