"""A SigLIP through Train CLIP: Load CLIP Model reads what is written, with the same features and its vocabulary."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS as NODES
from clip_vae_lora.nodes.host import host

from ...support import siglip
from ...training.clip.pictures import class_folder

WORDS = ["a photo of a red thing", "two dogs, and a Cat!"]


@pytest.fixture
def place(tmp_path: Path):
    """A run's folders, in which pictures of three classes and a SigLIP lie, with its vocabulary."""
    class_folder(tmp_path / "in" / "classes", each=4)
    models = tmp_path / "models" / "clip_vision"
    models.mkdir(parents=True)
    theirs = siglip.hugging_face(width=64, vocab=600)
    save_file(theirs.state_dict(), models / "small.safetensors")
    siglip.gemma_json(models).rename(models / "small.tokenizer.json")
    folders = {"output": tmp_path / "models" / "clip_vision" / "out", "inputs": [tmp_path / "in"]}
    host.set_place(models=tmp_path / "models", temp=tmp_path / "temp", on_step=lambda *_: None, **folders)
    yield tmp_path
    host.set_place(models=None, temp=tmp_path / "temp", on_step=lambda *_: None)


def _loaded(name: str, **more):
    with torch.inference_mode():
        return NODES["CVL_LoadCLIPModel"]().load(name, **more)["result"]


def _train(clip, **more) -> tuple[object, Path, dict]:
    given = {
        "folder": "input", "subfolder": "classes", "preset": "FLYP", "steps": 3, "batch": 6, "learning_rate": 1e-2,
        "seed": 1, "filename_prefix": "made", "clip_model": clip, "loss": "sigmoid", **more,
    }  # fmt: skip
    with torch.inference_mode():
        made, path, report = NODES["CVL_TrainCLIP"]().train(**given)["result"]
    return made, Path(path), json.loads(report)


def _features(clip) -> torch.Tensor:
    with torch.inference_mode():
        picture = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
        texts = host.text_features(clip, None, WORDS, None)
        return torch.cat([host.image_features(clip, picture, lambda *_: None), texts.features])


@pytest.mark.parametrize("loss", ["sigmoid", "contrastive"])
def test_what_was_trained_is_read_back_with_the_same_features_beside_its_vocabulary(place, loss):
    before, told, _ = _loaded("small.safetensors", heads=4)  # which its shapes do not tell
    assert json.loads(told)["vision"]["heads"] == 4
    made, path, report = _train(before, loss=loss)
    beside = path.with_name(f"{path.stem}.tokenizer.json")
    assert beside.read_bytes() == (path.parents[1] / "small.tokenizer.json").read_bytes()
    assert f"its vocabulary lies beside it, {beside.name}: keep both together" in report["notes"]
    again, told, _ = _loaded(f"out/{path.name}")
    assert again.config == before.config == made.config and json.loads(told)["vision"]["heads"] == 4
    assert torch.equal(_features(again), _features(made))
    assert float((_features(made) - _features(before)).norm()) > 1e-3  # it has learned
    with safe_open(path, "pt") as file:
        assert (float(file.get_tensor("logit_bias")) != -3.0) == (loss == "sigmoid")
        assert "vision_model.head.attention.in_proj_weight" in file.keys()  # Hugging Face's names


def test_transformers_reads_the_file(place):
    from transformers import SiglipModel

    made, path, _ = _train(_loaded("small.safetensors")[0])
    theirs = siglip.hugging_face(width=64, vocab=600)
    with safe_open(path, "pt") as file:
        missing = theirs.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()}, strict=False)
    assert isinstance(theirs, SiglipModel) and not missing.unexpected_keys and not missing.missing_keys
    rows, _ = made.tokenizer.rows(made.config, WORDS)
    with torch.no_grad():
        found = theirs.text_model(torch.tensor(rows)).pooler_output
    ours = torch.nn.functional.normalize(_features(made)[2:].float(), dim=-1)
    assert torch.allclose(torch.nn.functional.normalize(found, dim=-1), ours, atol=1e-5)


def test_a_lora_on_it_is_the_model_that_the_node_gives(place):
    made, path, report = _train(_loaded("small.safetensors")[0], rank=2, alpha=2.0)
    assert report["written"] == "LoRA" and not list(path.parent.glob("*.tokenizer.json"))
    assert report["without_name"] == {}
    assert float((_features(made) - _features(_loaded("small.safetensors")[0])).norm()) > 1e-4


def test_its_text_encoder_alone_is_refused_in_a_sentence(place):
    with pytest.raises(ValueError, match="it is a SigLIP's, which no model that draws reads prompts by"):
        _train(_loaded("small.safetensors")[0], writes="text encoder")
