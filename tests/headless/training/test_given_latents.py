"""Train LoRA on lists of latents and prompts from the graph, in a workflow and as the plan that it writes."""

import json

import pytest
import torch

from clip_vae_lora.headless import command
from clip_vae_lora.headless.training import command as training
from clip_vae_lora.headless.workflow import embedded
from clip_vae_lora.nodes.training.plan_file import names_of_few_steps
from clip_vae_lora.training.lora.plan_file import PlanFile

from .test_train_lora import SmallModel


class Latents:
    RETURN_TYPES, FUNCTION, OUTPUT_IS_LIST = ("LATENT", "CONDITIONING"), "make", (True, True)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"clip": ("CLIP",)}}

    def make(self, clip):
        from clip_vae_lora.nodes.text.encode import TextEncode

        generator = torch.Generator().manual_seed(0)
        latents = [{"samples": torch.randn(1, 4, 8, side, generator=generator)} for side in (8, 8, 4)]
        return latents, [TextEncode().encode(clip, text)["result"][0] for text in ("one", "two", "three")]


GRAPH = {
    "1": {"class_type": "SmallModel", "inputs": {}},
    "2": {"class_type": "CVL_LoadTextEncoder", "inputs": {"file": "bundled/tiny_clip.safetensors"}},
    "3": {"class_type": "CVL_LoadVAE", "inputs": {"file": "bundled/tiny_vae.safetensors"}},
    "4": {"class_type": "Latents", "inputs": {"clip": ["2", 0]}},
    "5": {
        "class_type": "CVL_TrainLoRA",
        "inputs": {
            "model": ["1", 0],
            "clip": ["2", 0],
            "vae": ["3", 0],
            "latent": ["4", 0],
            "positive": ["4", 1],
            "folder": "input",
            "subfolder": "",
            "steps": 3,
            "rank": 4,
            "learning_rate": 0.01,
            "resolution": 64,
            "trigger": "",
            "seed": 3,
            "filename_prefix": "loras/made",
        },
    },
}


@pytest.fixture
def known(monkeypatch):
    own = embedded._classes
    more = {"SmallModel": SmallModel, "Latents": Latents}
    monkeypatch.setattr(embedded, "_classes", lambda folders: {**own(folders), **more})


def test_lists_of_latents_and_prompts_are_learned_and_the_plan_runs_again(known, tmp_path, capsys):
    from safetensors.torch import load_file

    (tmp_path / "w.json").write_text(json.dumps(GRAPH))
    assert command.main([str(tmp_path / "w.json"), "--output", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    assert "3 pictures, 3 steps" in capsys.readouterr().out
    plan = tmp_path / "out" / "cvl_training" / "made.plan.toml"
    assert "pictures" not in plan.read_text()
    plan.rename(tmp_path / "plan.toml")
    assert training.main([str(tmp_path / "plan.toml"), "--output", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    first, second = (load_file(path) for path in sorted((tmp_path / "out" / "loras").iterdir()))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_several_values_for_an_input_that_takes_one_are_refused():
    from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS

    with pytest.raises(ValueError, match="2 values came into seed, which takes one"):
        needed = dict.fromkeys(NODE_CLASS_MAPPINGS["CVL_TrainLoRA"].INPUT_TYPES()["required"], [object()])
        NODE_CLASS_MAPPINGS["CVL_TrainLoRA"]().train(**{**needed, "seed": [1, 2]}, latent=[object(), object()])


def test_files_whose_names_say_few_steps_are_named():
    nodes = {
        str(number): {"class_type": "L", "inputs": {"name": name, "text": "a turbo car"}}
        for number, name in enumerate(
            ["sdxl_lightning_4step.safetensors", "z-image-turbo.safetensors", "sd15.safetensors", "Hypernova.ckpt"]
        )
    }
    found = names_of_few_steps(PlanFile({}, {}, nodes))
    assert found == ["sdxl_lightning_4step.safetensors", "z-image-turbo.safetensors"]
