"""`cvl train lora` under torchrun, as one starts it: two processes make the file that one makes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.files.images import write_png

TRAIN = Path(__file__).resolve().parents[3] / "headless" / "train.py"
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
PLAN = """
[training]
pictures = "pictures"
steps = 3
rank = 2
learning_rate = 0.01
resolution = 64
trigger = "sks"
seed = 3
batch = 2
filename_prefix = "loras/made"

[models]
model = "bundled/tiny_diffusion.safetensors"
clip = "bundled/tiny_clip.safetensors"
vae = "bundled/tiny_vae.safetensors"
"""


def _made(folder: Path, name: str, *before: str) -> tuple[dict[str, torch.Tensor], str]:
    command = [sys.executable, *before, str(TRAIN), "lora", str(folder / "plan.toml"), "--output", str(folder / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = (folder / name / "loras").glob("made*.safetensors")
    return load_file(file), done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_write_the_file_that_one_writes_and_say_it_once(tmp_path):
    generator = torch.Generator().manual_seed(0)
    (tmp_path / "pictures").mkdir()
    for number in range(5):
        write_png(tmp_path / "pictures" / f"p{number}.png", torch.rand(64, 64, 3, generator=generator), {})
        (tmp_path / "pictures" / f"p{number}.txt").write_text(f"picture {number}")
    (tmp_path / "plan.toml").write_text(PLAN)
    alone, alone_said = _made(tmp_path, "alone")
    together, said = _made(tmp_path, "together", *TORCHRUN)
    assert alone_said and len(said.splitlines()) == len(alone_said.splitlines()) and together.keys() == alone.keys()
    for name, tensor in together.items():  # gradients are added up in another order; the file's numbers have 16 bits
        torch.testing.assert_close(tensor.float(), alone[name].float(), rtol=2e-3, atol=1e-5)
