"""Processes that train one CLIP together: what one makes, to rounding; one that dies ends them with the state saved."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.training.clip.run import train_clip

from .pictures import class_folder, prepared
from .test_run import FULL, made_of, towers
from .tiny_batch import far

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")


def _train(folder: Path, count: int, *more: str) -> tuple[list[int], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "TORCHELASTIC_RUN_ID": "x"}
    script = Path(__file__).with_name("together.py")
    worker = [sys.executable, str(script), *(str(folder / name) for name in ("state", "made", "p")), *more]
    running = [
        subprocess.Popen(
            worker, env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE
        )
        for rank in range(count)
    ]
    said = [process.communicate()[1].decode() for process in running]
    return [process.returncode for process in running], "\n".join(said)


@pytest.mark.slow
def test_a_lost_process_ends_the_other_with_the_state_saved_and_both_go_on_to_what_one_makes(tmp_path):
    class_folder(tmp_path / "p")
    codes, said = _train(tmp_path, 2, "3")
    assert codes[1] == 9 and codes[0] not in (0, 9) and "another of the processes is gone" in said
    assert len(load_file(tmp_path / "state")["losses"]) == 3
    codes, said = _train(tmp_path, 2)
    assert codes == [0, 0], said
    alone, made = made_of(train_clip(towers(), prepared(tmp_path / "p"), FULL)), load_file(tmp_path / "made")
    told = [name for name in alone if not name.endswith("k_proj.bias")]  # which has no gradient but rounding
    assert (
        made.keys() == alone.keys() and far({n: made[n] for n in told}, {n: alone[n] for n in told}) <= 1e-5
    )  # float32
