"""The optimiser's memory shared out among processes: a part in each, one state on disk, the weights of the whole."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clip_vae_lora.training.clip.presets import plan_of
from clip_vae_lora.training.clip.run import ClipHooks, train_clip
from clip_vae_lora.training.loop import Checkpoint, TrainingPlan

from ..clip.pictures import class_folder, prepared
from ..clip.test_run import made_of, towers
from ..clip.tiny_batch import far
from ..processes import run_together
from .sharded import PLANS

gloo = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")


def _alone(folder: Path, plan: str, state: Checkpoint | None = None, last: int | None = None):
    def on_step(done: int, total: int, loss: float) -> None:
        if done == last:
            raise KeyboardInterrupt

    whole = replace(PLANS[plan], sharded=False)
    hooks = ClipHooks(on_step, every=0)
    return made_of(train_clip(towers(), prepared(folder / "p"), whole, hooks=hooks, checkpoint=state))


def _distance(made: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    told = [name for name in expected if not name.endswith("k_proj.bias")]  # which has no gradient but rounding
    assert made.keys() == expected.keys()
    return far({n: made[n] for n in told}, {n: expected[n] for n in told})


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """What two processes made of the plans, of one process's state, and of two trainings that were broken off."""
    folder = tmp_path_factory.mktemp("together")
    class_folder(folder / "p")
    with pytest.raises(KeyboardInterrupt):
        _alone(folder, "AdamW", Checkpoint(folder / "given"), 3)
    codes, said = run_together(Path(__file__).with_name("worker.py"), 2, folder)
    assert codes[1] == 9 and codes[0] not in (0, 9) and "another of the processes is gone" in said[0], said
    return folder


@gloo
@pytest.mark.parametrize("plan", PLANS)
def test_processes_with_a_part_of_the_memory_each_make_what_one_makes_with_all(together, plan):
    expected = _alone(together, plan)
    assert _distance(load_file(together / plan), expected) <= 1e-5  # float32


@gloo
def test_each_process_remembers_its_part_alone(together):
    told = [json.loads((together / f"{rank}.json").read_text()) for rank in range(2)]
    sizes = [one.numel() for one in towers().model.parameters() if one.ndim]
    assert [one["equal"] for one in told] == [8 * 64 * 64] * 2  # both moments of eight tensors of one size
    assert sum(one["AdamW"] for one in told) == 2 * sum(sizes)
    assert max(one["AdamW"] for one in told) == 2 * max(sizes)  # whole tensors: here that of the tokens is nearly all
    assert all(one["Adafactor"] > 0 for one in told)
    assert told[0]["averages"] == len(sizes) + 1 and told[1]["averages"] == 0  # the mean is the first one's alone


@gloo
def test_a_state_is_the_same_whoever_wrote_it_and_any_number_of_processes_goes_on(together):
    expected = _alone(together, "AdamW")
    assert _distance(load_file(together / "resumed"), expected) <= 1e-5  # one broke off, two went on
    one, two = load_file(together / "given"), load_file(together / "broken")
    assert one.keys() == two.keys() and len(two["losses"]) == 3
    assert any(name.startswith("exp_avg_sq/") for name in two)
    state = Checkpoint(together / "broken", resume=True)
    assert _distance(_alone(together, "AdamW", state), expected) <= 1e-5  # two broke off, one goes on


@gloo
def test_a_process_that_dies_leaves_the_state_that_was_saved_last(together):
    saved = load_file(together / "lost")
    assert len(saved["losses"]) == 2  # of three steps, for it is saved at every second
    state = Checkpoint(together / "lost", resume=True)
    assert _distance(_alone(together, "AdamW", state), _alone(together, "AdamW")) <= 1e-5


@pytest.mark.parametrize("optimiser", ["schedule-free AdamW", "Prodigy"])
def test_a_memory_that_asks_for_all_parameters_is_not_shared_out(optimiser):
    said = f"the optimiser is '{optimiser}', whose memory cannot be shared out among processes: choose AdamW or"
    with pytest.raises(ValueError, match=said):
        plan_of("none", {"optimiser": optimiser, "sharded": True})
    with pytest.raises(ValueError, match=said):
        TrainingPlan(steps=1, seed=0, lr=1.0, optimiser=optimiser, is_sharded=True)
