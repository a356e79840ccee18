"""cvl learn labels: the node's work from a shell, on an index that cvl embed made."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from clip_vae_lora.files.images import write_png
from clip_vae_lora.headless import cvl
from clip_vae_lora.training.scenes.drawing import draw
from clip_vae_lora.training.scenes.scene import SHAPES, random_scenes

MODEL = Path(__file__).resolve().parents[3] / "models" / "tiny_clip.safetensors"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """An index of 30 drawn pictures, three of each of two shapes in a folder of its name."""
    base = tmp_path_factory.mktemp("learn")
    generator = torch.Generator().manual_seed(2)
    scenes = random_scenes(30, generator, [(shape, colour) for shape in (0, 3) for colour in range(6)])
    counts = {0: 0, 3: 0}
    for number, (picture, shape) in enumerate(zip(draw(scenes, 64, generator), scenes.shape.tolist())):
        counts[shape] += 1
        path = base / "pictures" / (SHAPES[shape] if counts[shape] <= 3 else "rest") / f"{SHAPES[shape]}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, picture.permute(1, 2, 0), {})
    folders = ["--model", str(MODEL), "--index", str(base / "index")]
    assert cvl.main(["embed", str(base / "pictures"), *folders]) == 0
    return base / "index"


def learned(capsys, index, tmp_path, *more):
    """The exit code, and what --json printed."""
    (tmp_path / "classes.txt").write_text("circle\nstar\n", encoding="utf-8")
    options = ["--model", str(MODEL), "--classes", str(tmp_path / "classes.txt"), "--output", str(tmp_path / "out")]
    code = cvl.main(["learn", "labels", str(index), *options, "--json", "--quiet", *more])
    return code, json.loads(capsys.readouterr().out)


def test_it_learns_and_writes_below_the_output_folder(capsys, index, tmp_path):
    code, report = learned(capsys, index, tmp_path, "--write", "folders", "--held-out", "0.34")
    assert code == 0 and report["held_out"]["of"] == 2 and report["unlabelled"] == 24
    written = Path(report["written"])
    assert Path(report["file"]).is_file() and written.is_relative_to(tmp_path / "out")
    copies = list(written.rglob("*.png"))
    right = sum(path.parent.name == path.name.partition("_")[0] for path in copies)
    assert len(copies) >= 20 and right / len(copies) >= 0.9


def test_picks_of_a_file_are_taken(capsys, index, tmp_path):
    (tmp_path / "picks.json").write_text(json.dumps({"lost.png": "star"}), encoding="utf-8")
    code, report = learned(capsys, index, tmp_path, "--picks", str(tmp_path / "picks.json"))
    assert code == 0 and "picked, but not in the index: lost.png" in report["notes"]


def test_what_cannot_be_done_is_a_sentence_and_an_exit_code(capsys, index, tmp_path):
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    code, report = learned(capsys, index, tmp_path, "--name", "../outside", "--write", "folders")
    assert code == 1 and "leads out of the folder" in report["error"]
    code, report = learned(capsys, tmp_path / "nothing", tmp_path)
    assert code == 1 and report["error"]
    code, report = learned(capsys, index, tmp_path, "--threshold", "7")
    assert code == 1 and "a threshold of 0..1" in report["error"]
    assert not list(tmp_path.rglob("*.labels.safetensors"))
