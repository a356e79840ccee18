"""Processes that train one CLIP together: what one makes, to rounding; one that dies ends them with the state saved."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.training.clip.run import train_clip

from ..processes import run_together
from .pictures import class_folder, prepared
from .test_run import FULL, made_of, towers
from .tiny_batch import far

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")


def _train(folder: Path, count: int, *more: str) -> tuple[list[int], str]:
    paths = (folder / name for name in ("state", "made", "p"))
    codes, said = run_together(Path(__file__).with_name("together.py"), count, *paths, *more)
    return codes, "\n".join(said)


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
