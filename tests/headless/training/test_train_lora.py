"""`cvl train lora PLAN.toml` without ComfyUI: what it trains, what the node wrote it again, what it refuses."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.files.images import write_png
from clip_vae_lora.headless.training import command
from clip_vae_lora.headless.training.plan import parse_plan
from clip_vae_lora.headless.workflow import embedded
from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS
from clip_vae_lora.nodes.host.alone.diffusion import make_model

from ...support.diffusion import small_diffusion

PLAN = """
[training]
pictures = "pictures"
steps = 4
rank = 4
learning_rate = 0.01
resolution = 64
trigger = "sks"
seed = 3
filename_prefix = "loras/made"
batch = 2

[models]
model = ["1", 0]
clip = "bundled/tiny_clip.safetensors"
vae = "bundled/tiny_vae.safetensors"

[graph.1]
class_type = "SmallModel"
inputs = {}
"""


class SmallModel:
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        return (make_model(small_diffusion.CONFIG, small_diffusion.state(), "fp32"),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with pictures and a plan in it."""
    generator = torch.Generator().manual_seed(0)
    (tmp_path / "pictures").mkdir()
    for number in range(5):
        write_png(tmp_path / "pictures" / f"p{number}.png", torch.rand(64, 64, 3, generator=generator), {})
        (tmp_path / "pictures" / f"p{number}.txt").write_text(f"picture {number}")
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path


@pytest.fixture
def train(folder, monkeypatch, capsys):
    """train(plan's name, *arguments) -> (exit code, stdout, stderr); what is made goes to out/."""
    known = embedded._classes
    monkeypatch.setattr(embedded, "_classes", lambda folders: {**known(folders), "SmallModel": SmallModel})

    def train(plan: str = "plan.toml", *arguments: str) -> tuple[int, str, str]:
        code = command.main([str(folder / plan), "--output", str(folder / "out"), *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return train


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "out" / "loras").glob("made*.safetensors"))


def test_a_plan_becomes_a_file_a_log_and_a_plot(folder, train):
    code, out, err = train()
    assert code == 0, err
    (made,) = _files(folder)
    assert any(name.endswith("lora_up.weight") for name in load_file(made))
    assert "5 pictures, 4 steps" in out and made.name in out
    state = folder / "out" / "cvl_training"
    lines = [json.loads(line) for line in (state / "made.log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert all(len(line["bands"]) == 4 for line in lines if "bands" in line)
    from PIL import Image

    with Image.open(state / "made.course.png") as plot:
        assert plot.size == (1024, 800) and len(plot.convert("RGB").getcolors(10**6)) > 20
    assert not (state / "made.state.safetensors").exists() and not (state / "made.lock").exists()


@pytest.mark.parametrize("more", ["", "text_encoder_rate = 0.5\n"], ids=["the model", "the text encoder, too"])
def test_the_plan_that_the_node_wrote_runs_to_the_same_bits(folder, train, more):
    from safetensors import safe_open

    (folder / "plan.toml").write_text(PLAN.replace("batch = 2\n", "batch = 2\n" + more))
    assert train()[0] == 0
    written = folder / "out" / "cvl_training" / "made.plan.toml"
    again = folder / "again.toml"
    again.write_text(written.read_text())
    plan = parse_plan(again.read_text())
    assert plan.training["drop_caption"] == 0.05 and plan.training["seed"] == 3 and "resume" not in plan.training
    assert plan.graph[plan.models["model"][0]]["class_type"] == "SmallModel"
    assert train("again.toml")[0] == 0
    first, second = (load_file(path) for path in _files(folder))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert any(name.startswith("lora_te_") for name in first) == bool(more)
    with safe_open(_files(folder)[0], "pt") as file:
        told = parse_plan(file.metadata()["cvl.plan_file"])
    assert told.training == {**plan.training, "pictures": "pictures"} and told.graph == plan.graph


@pytest.mark.parametrize(
    ("line", "instead", "words"),
    [
        ("rank = 4", "rnak = 4", "no input 'rnak'; near are rank"),
        ("rank = 4", "rank = 0", "'rank': 0 is out of range"),
        ("rank = 4", 'targets = "linaer"', "near are linear"),
        ("[models]", "[model]", "no part 'model'; near are models"),
        ('vae = "bundled', 'vea = "bundled', r"\[models\] of the plan has no 'vea'; near are vae"),
        ('clip = "bundled/tiny_clip.safetensors"', "", "which clip to use"),
        ('clip = "bundled/tiny_clip', 'clip = "bundled/tiny_cilp', "tiny_clip.safetensors"),
        ("steps = 4", "steps = = 4", "the plan is no TOML"),
        ('pictures = "pictures"', 'pictures = "nowhere"', "nowhere is not there"),
        ('model = ["1", 0]', 'model = ["7", 0]', "node 7, which is not in its"),
    ],
)
def test_a_wrong_plan_is_refused_with_a_sentence_before_anything_runs(folder, train, line, instead, words):
    import re

    assert line in PLAN
    (folder / "plan.toml").write_text(PLAN.replace(line, instead))
    code, _, err = train()
    assert code == 2 and re.search(words, err.splitlines()[-1]), err
    assert err.startswith("error: ") and len(err.splitlines()) == 1 and not _files(folder)


def test_ctrl_c_ends_after_the_step_and_resume_ends_in_the_same_bits(folder, train, monkeypatch):
    assert train()[0] == 0
    from clip_vae_lora.training.lora.course import Course

    loss, seen = Course.loss, []

    def interrupted(self, number, generator):
        seen.append(number)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(self, number, generator)

    monkeypatch.setattr(Course, "loss", interrupted)
    code, _, err = train()
    assert code == 130 and "--resume" in err.splitlines()[-1] and seen == [0, 1]
    state = folder / "out" / "cvl_training" / "made.state.safetensors"
    assert len(load_file(state)["losses"]) == 2 and len(_files(folder)) == 2
    monkeypatch.undo()
    monkeypatch.setattr(embedded, "_classes", _with_small_model())
    assert train("plan.toml", "--resume")[0] == 0
    whole, early, resumed = (load_file(path) for path in _files(folder))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert any(not torch.equal(whole[name], early[name]) for name in whole)


def _with_small_model():
    known = embedded._classes
    return lambda folders: {**known(folders), "SmallModel": SmallModel}


def test_a_second_training_of_the_same_name_is_refused(folder, train):
    state = folder / "out" / "cvl_training"
    state.mkdir(parents=True)
    holder = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import checkout; checkout.bind()\n"
        "from pathlib import Path\n"
        "from clip_vae_lora.files.writing import held_alone\n"
        "with held_alone(Path(sys.argv[2]), 'busy'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    arguments = [sys.executable, "-c", holder, str(Path(command.__file__).parents[1]), str(state / "made.lock")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline().strip() == "held"
        code, _, err = train()
        assert code == 1 and "another training of the name 'made' is under way" in err and not _files(folder)
        other.kill()
    assert train()[0] == 0  # the lock went with its holder


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX")
def test_a_full_disk_is_a_sentence_and_the_last_state_is_kept(folder, train):
    import resource

    assert train()[0] == 0
    whole = load_file(_files(folder)[0])
    state = folder / "out" / "cvl_training" / "made.state.safetensors"
    _stop_after(folder, train, 2)
    kept = state.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        code, _, err = train("plan.toml", "--resume")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1 and "cannot be written: " in err.splitlines()[-1] and "Traceback" not in err
    assert state.read_bytes() == kept
    assert train("plan.toml", "--resume")[0] == 0
    resumed = load_file(_files(folder)[-1])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def _stop_after(folder: Path, train, steps: int) -> None:
    """Interrupt a training after so many steps."""
    from clip_vae_lora.training.lora.course import Course

    loss = Course.loss
    with pytest.MonkeyPatch.context() as patch:

        def interrupted(self, number, generator):
            if number == steps - 1:
                os.kill(os.getpid(), signal.SIGINT)
            return loss(self, number, generator)

        patch.setattr(Course, "loss", interrupted)
        assert train()[0] == 130


def test_every_input_of_the_node_but_the_wires_can_stand_in_a_plan():
    from clip_vae_lora.nodes.training.plan_file import input_names

    given = NODE_CLASS_MAPPINGS["CVL_TrainLoRA"].INPUT_TYPES()
    all_of_them = {**given["required"], **given["optional"]}
    assert set(all_of_them) - set(input_names()) == {
        *("model", "clip", "vae", "latent", "positive"),
        *("folder", "subfolder", "resume"),
    }
