"""`cvl train clip` as a stranger runs it: one folder, one command; a plan; what it refuses; what Ctrl+C leaves."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clip_vae_lora.clip_core.checkpoint.find import find_clip
from clip_vae_lora.files.tensors import open_tensors, write_tensors
from clip_vae_lora.headless.training.clip_command import main

from ...support import tiny
from ...training.clip.pictures import captioned, class_folder

ROOT = Path(__file__).resolve().parents[3]
SMALL = {"width": 32, "layers": 1, "patch_px": 8, "image_px": 16, "text_width": 32, "text_layers": 1, "embed": 16}
PLAN = f"""
[training]
pictures = "p"
preset = "from-scratch-small"
size = {{{", ".join(f"{name} = {number}" for name, number in SMALL.items())}}}
steps = 4
batch = 6
filename_prefix = "made"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    class_folder(tmp_path / "p")
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path


def _train(folder: Path, capsys, *arguments: str, plan: str = "plan.toml") -> tuple[int, str, str]:
    code = main([str(folder / plan), "--output", str(folder / "out"), "--quiet", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_plan_trains_from_scratch_and_the_report_says_what_on_what(folder, capsys):
    (folder / "p" / "stray.txt").write_text("x")
    code, out, err = _train(folder, capsys, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["pictures"] == 24 and told["classes"] == ["blue thing", "green thing", "red thing"]
    assert len(told["losses"]) == 4 and told["unused"] == {"stray.txt": "no picture"}
    assert told["validation"][-1]["accuracy"] is not None and len(told["sweep"]["points"]) == 11
    with open_tensors(Path(told["file"])) as file:
        assert find_clip(file.shapes, file.metadata).config.vision.image_px == 16
    written = (folder / "out" / "cvl_training" / "made.plan.toml").read_text()
    assert written.startswith("# A training of a CLIP; `cvl train clip FILE` runs it again")


def test_a_file_of_a_clip_is_trained_on_and_a_recipe_may_be_named(folder, capsys):
    tiny.clip_file(folder / "clip.safetensors")
    (folder / "plan.toml").write_text(
        '[training]\npictures = "p"\npreset = "CLIP-LoRA"\nsteps = 2\nbatch = 4\n'
        '[models]\nclip_model = "clip.safetensors"'
    )
    code, out, err = _train(folder, capsys, "--json")
    assert code == 0, err
    assert json.loads(out)["written"] == "LoRA" and json.loads(out)["start"] == "clip.safetensors"


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("steps = 4", "setps = 4", "has no 'setps'; near are steps"),
        ("steps = 4", "steps = 'many'", "steps is 'many': expected a whole number"),
        ("batch = 6", "batch = 600", "larger than the data"),
        ("from-scratch-small", "best", "expected one of FLYP"),
        ('pictures = "p"', 'pictures = "q"', "does not exist"),
        ('pictures = "p"', "", "the plan names no pictures"),
        ("image_px = 16", "image_px = 17", "do not divide into patches"),
        ("width = 32", "width = 0", "expected 1 or more"),
        ("[training]", "[training", "the plan is no TOML"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused_in_one_sentence(folder, capsys, old, new, said):
    (folder / "plan.toml").write_text(PLAN.replace(old, new, 1))
    code, _, err = _train(folder, capsys)
    assert code in (1, 2) and said in err and err.count("\n") == 1, err


def test_a_clip_without_one_of_its_encoders_is_refused(folder, capsys):
    write_tensors(folder / "half.safetensors", tiny.text_state(), {})
    code, _, err = _train(folder, capsys, "--model", str(folder / "half.safetensors"), plan="p")
    assert code == 2 and "Both halves of a CLIP in one file were expected" in err


def test_two_folders_with_the_same_pictures_are_refused(folder, capsys):
    for path in (folder / "p" / "red_thing").iterdir():
        (folder / "p" / "blue_thing" / f"copy of {path.name}").write_bytes(path.read_bytes())
    code, _, err = _train(folder, capsys)
    assert code == 1 and "the labels contradict each other" in err and "8 such pictures" in err


def test_captions_and_no_captions(folder, capsys):
    captioned(folder / "c")
    code, out, err = _train(folder, capsys, "--pictures", str(folder / "c"), "--json")
    assert code == 0 and "picture_to_text" in json.loads(out)["validation"][-1], err
    for path in (folder / "c").glob("*.txt"):
        path.unlink()
    code, _, err = _train(folder, capsys, "--pictures", str(folder / "c"))
    assert code == 1 and "none of the pictures has a caption" in err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_saves_and_the_same_command_with_resume_ends_in_the_same_bits(folder, capsys):
    (folder / "plan.toml").write_text(PLAN.replace("steps = 4", "steps = 30").replace("made", "broken"))
    command = [sys.executable, str(ROOT / "headless" / "train.py"), "clip", str(folder / "plan.toml")]
    command += ["--output", str(folder / "out")]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in running.stderr:
        if "broken: 3 of 30" in line or "broken: 6 of 30" in line:
            running.send_signal(signal.SIGINT)
            break
    said = running.stderr.read()
    assert running.wait() == 130 and "--resume" in said
    assert (folder / "out" / "cvl_training" / "broken.state.safetensors").is_file()
    code, out, err = _train(folder, capsys, "--resume", "--json")
    assert code == 0, err
    (folder / "plan.toml").write_text(PLAN.replace("steps = 4", "steps = 30").replace("made", "whole"))
    whole = json.loads(_train(folder, capsys, "--json")[1])
    with open_tensors(Path(json.loads(out)["file"])) as one, open_tensors(Path(whole["file"])) as other:
        first, second = one.read(one.shapes), other.read(other.shapes)
    assert first.keys() == second.keys() and all(bool((first[name] == second[name]).all()) for name in first)
