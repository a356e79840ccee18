"""Tar shards of several processes: each reads its own, the training is that of one, and it goes on at the same pair."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file

from clip_vae_lora.training.clip.data import shards as shared
from clip_vae_lora.training.clip.data.shards import are_shared_out, dealt, lanes_of, one_pass
from clip_vae_lora.training.clip.run import ClipHooks, train_clip
from clip_vae_lora.training.distributed import ProcessGroup
from clip_vae_lora.training.loop import Checkpoint, TrainingError

from ..clip.test_run import made_of, towers
from ..clip.tiny_batch import far
from ..processes import run_together
from .tars import PLANS, prepared, tar_folder

WORKER = Path(__file__).with_name("worker.py")
gloo = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")


def _pass(sizes: list[int], batch: int, seed: int = 0) -> tuple[list[int], list[int]]:
    """The shard of each place, and a pass over all of them."""
    numbers = [number for number, size in enumerate(sizes) for _ in range(size)]
    lanes = lanes_of(range(len(numbers)), numbers, batch)
    return numbers, one_pass(lanes, torch.Generator().manual_seed(seed))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(2, 16))
@example([1, 1, 1, 1, 1, 1, 1, 5], 8)
def test_a_pass_has_every_place_once_and_each_stretch_its_share_of_each_lane(sizes, batch):
    numbers, order = _pass(sizes, batch)
    assert sorted(order) == list(range(len(numbers)))
    many = len(lanes_of(range(len(numbers)), numbers, batch))
    lane = [numbers[place] % many for place in order]
    for number, whole in Counter(lane).items():
        for first in range(0, len(order) - batch + 1):
            assert abs(lane[first : first + batch].count(number) - batch * whole / len(order)) < 2


@pytest.mark.parametrize("size", [2, 4, 8])
def test_shards_of_one_size_give_every_process_the_same_part_of_every_batch(size, monkeypatch):
    numbers, order = _pass([6] * 8, 16)
    monkeypatch.setattr(shared, "current_group", lambda: ProcessGroup(0, size))
    for first in range(0, len(order), 16):
        rows = [numbers[place] for place in order[first : first + 16]]
        turn, counts = dealt(rows, 8)
        assert counts == [16 // size] * size and sorted(turn) == list(range(16))
        assert [rows[row] % size for row in turn] == sorted(rows[row] % size for row in turn)


def test_without_shards_the_order_is_what_it_was_and_passes_differ():
    lanes = lanes_of([7, 8, 9], [-1, -1, -1], 2)
    found = one_pass(lanes, torch.Generator().manual_seed(3))
    assert found == [7 + n for n in torch.randperm(3, generator=torch.Generator().manual_seed(3)).tolist()]
    assert _pass([6] * 4, 8, 0)[1] != _pass([6] * 4, 8, 1)[1]


def test_shards_are_shared_out_where_each_process_has_one():
    assert [are_shared_out(3, size) for size in (1, 2, 3, 4)] == [False, True, True, False]


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """What two processes made and told of several trainings, the last of which the first one broke off."""
    folder = tmp_path_factory.mktemp("together")
    tar_folder(folder / "four")
    tar_folder(folder / "one", (12,))
    tar_folder(folder / "broken", (2, 2))
    (folder / "broken" / "001.tar").write_bytes(b"no archive" * 100)
    codes, said = run_together(WORKER, 2, folder)
    assert all(codes) and "KeyboardInterrupt" in said[0] and "another of the processes is gone" in said[1], said
    return folder


def _told(folder: Path, training: str) -> list[dict]:
    """What each process told of a training."""
    return [json.loads((folder / f"{training} {rank}.json").read_text()) for rank in range(2)]


def _alone(folder: Path, plan: str) -> dict[str, torch.Tensor]:
    return made_of(train_clip(towers(), prepared(folder), PLANS[plan], hooks=ClipHooks(every=0)))


def _distance(made: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    told = [name for name in expected if not name.endswith("k_proj.bias")]  # which has no gradient but rounding
    return far({n: made[n] for n in told}, {n: expected[n] for n in told})


@gloo
@pytest.mark.parametrize("plan", PLANS)
def test_each_process_opens_its_own_shards_alone_and_they_make_what_one_makes(together, plan):
    first, second = _told(together, f"{plan} four")
    for what in ("headers", "pictures"):
        assert set(first[what]) == {"000.tar", "002.tar"} and set(second[what]) == {"001.tar", "003.tar"}
    assert first["said"] == ["each of 2 processes reads its own of 4 tar files; the held-out pictures the first one"]
    assert _distance(load_file(together / f"{plan} four"), _alone(together / "four", plan)) <= 1e-5  # float32


@gloo
def test_what_two_broke_off_goes_on_with_one_at_the_same_pair(together):
    assert len(load_file(together / "state")["losses"]) == 3
    state = Checkpoint(together / "state", resume=True)
    resumed = train_clip(towers(), prepared(together / "four"), PLANS["contrastive"], checkpoint=state)
    assert _distance(made_of(resumed), _alone(together / "four", "contrastive")) <= 1e-5


@gloo
def test_of_fewer_shards_than_processes_all_read_all_and_it_is_said(together):
    for one in _told(together, "contrastive one"):
        assert set(one["pictures"]) == {"000.tar"}
        assert "there are 1 tar files and 2 processes, so that every process reads all of them" in one["said"][0]
    assert _distance(load_file(together / "contrastive one"), _alone(together / "one", "contrastive")) <= 1e-5


@gloo
def test_a_shard_that_cannot_be_read_is_named_in_all_processes(together):
    for one in _told(together, " broken"):
        assert "001.tar: a tar archive, not compressed, was expected" in one["said"][0]


def test_a_state_of_the_same_pictures_in_other_shards_is_refused(tmp_path):
    tar_folder(tmp_path / "p")
    state = Checkpoint(tmp_path / "state", resume=True)
    train_clip(towers(), prepared(tmp_path / "p"), PLANS["contrastive"], checkpoint=state)
    shutil.rmtree(tmp_path / "p")
    tar_folder(tmp_path / "p", (12, 12))
    with pytest.raises(TrainingError, match="lanes was 4 and is 2"):
        train_clip(towers(), prepared(tmp_path / "p"), PLANS["contrastive"], checkpoint=state)
