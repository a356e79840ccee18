"""The node that trains a CLIP, without ComfyUI: what it gives, writes and says, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from clip_vae_lora.clip_core.checkpoint.find import find_clip
from clip_vae_lora.files.tensors import open_tensors
from clip_vae_lora.headless.training.clip_command import main as command
from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS as NODES
from clip_vae_lora.nodes.host import host
from clip_vae_lora.nodes.training.live import stop_and_keep

from ...support import tiny
from ...training.clip.pictures import captioned, class_folder


def _set(place: Path, on_step=lambda *_: None) -> None:
    folders = {"output": place / "out", "inputs": [place / "in"]}
    host.set_place(models=place / "models", temp=place / "temp", on_step=on_step, **folders)


@pytest.fixture
def place(tmp_path: Path):
    """A run's folders, in which pictures of three classes, pictures with captions and a CLIP lie."""
    class_folder(tmp_path / "in" / "classes", each=4)
    captioned(tmp_path / "in" / "captioned")
    (tmp_path / "models" / "clip_vision").mkdir(parents=True)
    tiny.clip_file(tmp_path / "models" / "clip_vision" / "clip.safetensors")
    _set(tmp_path)
    yield tmp_path
    host.set_place(models=None, temp=tmp_path / "temp", on_step=lambda *_: None)


def _clip():
    with torch.inference_mode():
        return NODES["CVL_LoadCLIPModel"]().load("clip.safetensors")["result"][0]


def _train(clip=None, **more) -> tuple[object, Path, dict, dict]:
    """Run the node as a host does; its results, its report, and its answer."""
    given = {
        "folder": "input", "subfolder": "classes", "preset": "auto", "steps": 3, "batch": 6, "learning_rate": 1e-3,
        "seed": 1, "filename_prefix": "clip/made", "clip_model": clip, **more,
    }  # fmt: skip
    with torch.inference_mode():
        answer = NODES["CVL_TrainCLIP"]().train(**given)
    made, path, report = answer["result"]
    return made, Path(path), json.loads(report), answer


def _features(clip) -> torch.Tensor:
    with torch.inference_mode():
        picture = torch.rand(1, 20, 20, 3, generator=torch.Generator().manual_seed(0))
        texts = host.text_features(clip, None, ["a red thing"], None)
        return torch.cat([host.image_features(clip, picture, lambda *_: None), texts.features])


def test_the_clip_that_comes_out_is_the_file_and_the_one_that_came_stays_as_it_is(place):
    clip = _clip()
    before = _features(clip)
    made, path, report, answer = _train(clip)
    (place / "models" / "clip_vision" / "made.safetensors").write_bytes(path.read_bytes())
    with torch.inference_mode():
        read = NODES["CVL_LoadCLIPModel"]().load("made.safetensors")["result"][0]
    assert torch.equal(_features(made), _features(read)) and not torch.equal(_features(made), before)
    assert torch.equal(_features(clip), before)
    assert report["pictures"] == 12 and report["written"] == "both encoders" and report["file"] == str(path)
    assert report["start"] == "the CLIP that is connected" and report["plan"]["lr"] == "0.001"
    chart = json.loads(answer["ui"]["cvl_chart"][0])
    assert [one["step"] for one in chart["judged"]] == [0, 1, 2, 3] and chart["judged"][-1]["right"] is not None
    assert len(chart["losses"]) == 3 and len(chart["sweep"]["points"]) == 11 and chart["samples"] == []


def test_a_lora_is_written_in_kohyas_names_and_lies_on_the_clip_that_comes_out(place):
    clip = _clip()
    made, path, report, _ = _train(clip, preset="CLIP-LoRA", learning_rate=0.05)
    assert report["written"] == "LoRA" and all(name.startswith("lora_te") for name in load_file(path) if "text" in name)
    (place / "models" / "loras").mkdir()
    (place / "models" / "loras" / "made.safetensors").write_bytes(path.read_bytes())
    with torch.inference_mode():
        loaded = NODES["CVL_LoadLoRA"]().load("made.safetensors", 1.0, 1.0, clip_model=clip)["result"][3]
    assert torch.equal(_features(made), _features(loaded)) and not torch.equal(_features(made), _features(clip))


def test_from_scratch_the_size_suits_the_pictures_and_the_plan_tells_it(place):
    _, path, report, _ = _train()
    assert report["start"] == "scratch (tiny-16)" and report["plan"]["average"] == "0.995"
    with open_tensors(path) as file:
        assert find_clip(file.shapes, file.metadata).config.vision.image_px == 16
    assert 'size = "tiny-16"' in (place / "out" / "cvl_training" / "made.plan.toml").read_text()


@pytest.mark.parametrize("kind", ["scratch", "weights", "LoRA"])
def test_the_command_runs_the_plan_that_the_node_wrote_to_the_same_bits(place, capsys, kind):
    prompt = {
        "5": {"class_type": "CVL_LoadCLIPModel", "inputs": {"file": "clip.safetensors"}},
        "7": {"class_type": "CVL_TrainCLIP", "inputs": {} if kind == "scratch" else {"clip_model": ["5", 0]}},
    }
    more = {"preset": "CLIP-LoRA"} if kind == "LoRA" else {"at_once": 4}
    clip = None if kind == "scratch" else _clip()
    _, path, *_ = _train(clip, prompt=prompt, unique_id="7", subfolder="classes", **more)
    plan = place / "out" / "cvl_training" / "made.plan.toml"
    arguments = [str(plan), "--output", str(place / "again"), "--models", str(place / "models"), "--quiet", "--json"]
    assert command(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    ours, theirs = load_file(path), load_file(told["file"])
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    with safe_open(path, "pt") as one, safe_open(told["file"], "pt") as other:
        assert one.metadata() == other.metadata() and str(place) not in str(one.metadata())
    assert (place / "again" / "cvl_training" / "made.plan.toml").read_text() == plan.read_text()


def test_cancel_leaves_a_file_and_resume_ends_in_the_same_bits(place):
    whole = load_file(_train(steps=4)[1])

    def stop(done, total):
        if total == 4 and done == 2:
            raise KeyboardInterrupt

    _set(place, stop)
    with pytest.raises(KeyboardInterrupt):
        _train(steps=4, filename_prefix="clip/broken")
    assert len(list((place / "out" / "clip").glob("broken*"))) == 1
    _set(place)
    resumed = load_file(_train(steps=4, filename_prefix="clip/broken", resume=True)[1])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_training_that_is_told_to_stop_keeps_what_it_has(place):
    def ask(done, total):
        if total == 3 and done == 1:
            stop_and_keep({"node": "7"})

    _set(place, ask)
    _, path, report, _ = _train(unique_id="7")
    assert report["stopped_early"] and report["steps"] == 1 and path.is_file()


def test_the_text_encoder_alone_is_written_for_prompts_and_the_best_point_is_kept(place):
    _, path, report, _ = _train(_clip(), writes="text encoder", best=True)
    assert all(name.startswith("text_") for name in load_file(path)) and load_file(path)
    assert report["share"] == report["sweep"]["best"]


def test_captions_are_learned_from_and_what_is_not_used_is_said(place):
    (place / "in" / "captioned" / "0.txt").unlink()
    _, _, report, answer = _train(_clip(), subfolder="captioned")
    assert report["unused"] == {"0.png": "it has no caption"} and "⚠ 1 files were not used" in answer["ui"]["text"][0]
    assert report["validation"][-1]["picture_to_text"] is not None


def test_what_is_left_to_the_preset_is_as_it_says_and_what_is_set_is_not(place):
    _, _, report, _ = _train(_clip(), preset="CLIP-LoRA", rank=3, alpha=3.0, flip="no", learning_rate=0.0)
    plan = report["plan"]
    assert (plan["rank"], plan["alpha"], plan["lr"], plan["loss"]) == ("3", "3.0", "0.0002", "classes")
    assert plan["dropout"] == "0.25"
    assert (plan["augmentation.flip"], plan["augmentation.crop"]) == ("False", "0.08")


def test_the_mark_of_a_folder_changes_with_its_words(place):
    mark = NODES["CVL_TrainCLIP"].IS_CHANGED
    before = mark("input", "captioned")
    assert mark("input", "captioned") == before
    (place / "in" / "captioned" / "1.txt").write_text("something else altogether")
    assert mark("input", "captioned") != before and mark("input", "nowhere") != mark("input", "nowhere")


def _one_class(place: Path) -> dict:
    (place / "in" / "one").mkdir()
    (place / "in" / "classes" / "red_thing").rename(place / "in" / "one" / "red_thing")
    return {"subfolder": "one"}


def _without_captions(place: Path) -> dict:
    for path in (place / "in" / "captioned").glob("*.txt"):
        path.unlink()
    return {"subfolder": "captioned"}


def _same_caption(place: Path) -> dict:
    for path in (place / "in" / "captioned").glob("*.txt"):
        path.write_text("the same")
    return {"subfolder": "captioned"}


def _copied_folder(place: Path) -> dict:
    for path in list((place / "in" / "classes" / "red_thing").iterdir()):
        (place / "in" / "classes" / "blue_thing" / f"copy of {path.name}").write_bytes(path.read_bytes())
    return {}


def _text_encoder(place: Path) -> dict:
    with torch.inference_mode():
        return {"clip": NODES["CVL_LoadTextEncoder"]().load("bundled/tiny_clip.safetensors")["result"][0]}


BAD = {
    "no captions": (_without_captions, "none of the pictures has a caption"),
    "one class": (_one_class, "only one class, 'red thing'"),
    "one caption": (_same_caption, "only one caption, 'the same'"),
    "two folders with the same pictures": (_copied_folder, "the labels contradict each other"),
    "a text encoder alone": (_text_encoder, "a CLIP with both encoders was expected"),
    "a batch larger than the data": (lambda place: {"batch": 13}, "a batch of 13 is larger than the data"),
    "a size for a CLIP": (lambda place: {"clip": _clip(), "size": "tiny"}, "which has its own"),
    "a LoRA on nothing": (lambda place: {"preset": "CLIP-LoRA"}, "no file that a LoRA could be put on"),
    "no such folder": (lambda place: {"subfolder": "nowhere"}, "nowhere"),
    "captions for classes": (
        lambda place: {"subfolder": "captioned", "loss": "classes"}, "some pictures have a caption but no class"
    ),
    "a template without a place": (lambda place: {"template": "a photo"}, "a template with {} where the name"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_learned_from_is_one_sentence(place, name):
    make, words = BAD[name]
    given = make(place)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        _train(given.pop("clip", None), **given)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert not list((place / "out").rglob("*.safetensors"))
