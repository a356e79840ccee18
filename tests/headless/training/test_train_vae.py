"""`cvl train vae PLAN.toml` without ComfyUI: what it trains, what the node wrote it again, what it refuses."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.files.images import write_png
from clip_vae_lora.headless.training import command
from clip_vae_lora.headless.training.plan import VAE, parse_plan
from clip_vae_lora.headless.workflow import embedded
from clip_vae_lora.nodes.host.alone.vae import make_vae
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL

from ...support.vaes import learning

PLAN = """
[training]
pictures = "pictures"
steps = 3
crop = 16
learning_rate = 0.001
seed = 3
filename_prefix = "vae/made"
batch = 2

[models]
vae = ["1", 0]

[graph.1]
class_type = "SmallVAE"
inputs = {}
"""


class SmallVAE:
    RETURN_TYPES = ("VAE",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        return (make_vae(partial(AutoencoderKL, learning.CONFIG), learning.state(), "fp32"),)


@pytest.fixture
def train(tmp_path: Path, monkeypatch, capsys):
    """train(text of the plan, *arguments) -> (exit code, stdout, stderr); what is made goes to out/."""
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        write_png(tmp_path / "pictures" / f"p{number}.png", learning.smooth(32, 36, number).float() / 255, {})
    known = embedded._classes
    monkeypatch.setattr(embedded, "_classes", lambda folders: {**known(folders), "SmallVAE": SmallVAE})

    def train(text: str = PLAN, *arguments: str) -> tuple[int, str, str]:
        (tmp_path / "plan.toml").write_text(text)
        output = str(tmp_path / "out")
        code = command.main([str(tmp_path / "plan.toml"), "--output", output, *arguments], "cvl train vae", VAE)
        said = capsys.readouterr()
        return code, said.out, said.err

    return train


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "out" / "vae").glob("made*.safetensors"))


def test_a_plan_becomes_a_file_and_the_plan_that_the_node_wrote_the_same_bits(tmp_path, train):
    code, out, err = train()
    assert code == 0, err
    assert "4 pictures, 3 steps" in out and "latents are as before, bit for bit" in out
    written = (tmp_path / "out" / "cvl_training" / "made.plan.toml").read_text()
    assert written.startswith("# A training by Train VAE (CVL); `cvl train vae FILE` runs it again")
    plan = parse_plan(written)
    assert plan.training["crop"] == 16 and plan.training["held_out"] == 0.2 and "resume" not in plan.training
    assert "image" not in plan.training and plan.graph[plan.models["vae"][0]]["class_type"] == "SmallVAE"
    assert train(written)[0] == 0
    first, second = (load_file(path) for path in _files(tmp_path))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_ctrl_c_leaves_a_file_and_resume_ends_in_the_same_bits(tmp_path, train, monkeypatch):
    assert train()[0] == 0
    from clip_vae_lora.training.vae.course import Course

    loss = Course.loss

    def stops(self, number, generator):
        if number == 2:
            raise KeyboardInterrupt
        return loss(self, number, generator)

    monkeypatch.setattr(Course, "loss", stops)
    code, _, err = train()
    assert code == 130 and "--resume goes on from here" in err
    monkeypatch.setattr(Course, "loss", loss)
    assert train(PLAN, "--resume")[0] == 0
    whole, broken, resumed = (load_file(path) for path in _files(tmp_path))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole) and broken.keys() == whole.keys()


@pytest.mark.parametrize(
    ("line", "instead", "words"),
    [
        ("crop = 16", "corp = 16", "Train VAE has no input 'corp'; near are crop"),
        ("crop = 16", "crop = 8", "'crop': 8 is out of range"),
        ("batch = 2", 'part = "decodre"', "near are decoder"),
        ('vae = ["1", 0]', "", "which vae to use"),
        ('vae = ["1", 0]', 'model = "x"', r"\[models\] of the plan has no 'model'"),
        ('vae = ["1", 0]', 'vae = "bundled/tiny_vea.safetensors"', "tiny_vae.safetensors"),
        ('pictures = "pictures"', 'pictures = "nowhere"', "nowhere is not there"),
        ('pictures = "pictures"', "", "the plan names no pictures"),
    ],
)
def test_a_wrong_plan_is_refused_with_a_sentence_before_anything_runs(tmp_path, train, line, instead, words):
    assert line in PLAN
    code, _, err = train(PLAN.replace(line, instead))
    assert code == 2 and re.search(words, err.splitlines()[-1]), err
    assert err.startswith("error: ") and len(err.splitlines()) == 1 and not _files(tmp_path)


def test_pictures_that_are_too_small_fail_with_a_sentence(tmp_path, train):
    code, _, err = train(PLAN.replace("crop = 16", "crop = 64"))
    assert code == 1 and "the largest has room for 32 px: set a smaller crop" in err and not _files(tmp_path)


def test_the_command_is_one_of_the_ways_in(tmp_path, train, monkeypatch, capsys):
    from clip_vae_lora.headless import train as ways

    with pytest.raises(SystemExit) as ended:
        ways.main(["vae", "--help"], "cvl train")
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "cvl train vae" in said and "--clip-model" in said and "--model " not in said
