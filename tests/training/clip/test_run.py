"""A training of a CLIP: the same bits however it was interrupted, what stays locked, and what it learns."""

import shutil
from pathlib import Path

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRA
from clip_vae_lora.training.clip.presets import plan_of
from clip_vae_lora.training.clip.run import ClipHooks, TrainedCLIP, train_clip
from clip_vae_lora.training.clip.targets import ClipTargetError
from clip_vae_lora.training.clip.towers import Towers, new_towers
from clip_vae_lora.training.loop import Checkpoint, StopAndKeep, TrainingError

from .pictures import captioned, class_folder, prepared
from .tiny_batch import CONFIG

SHORT = {"steps": 6, "batch": 6, "at_once": 4, "lr": 1e-3, "warm_up": 2, "seed": 5}
FULL = plan_of("from-scratch-small", SHORT)
LORA = plan_of("CLIP-LoRA", SHORT | {"train_scale": True})
PLANS = {"all, averaged": FULL, "LoRA with dropout": LORA}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return class_folder(tmp_path_factory.mktemp("pictures") / "p")


def towers(seed: int = 0) -> Towers:
    return new_towers(CONFIG, seed, torch.device("cpu"), "float32")


def made_of(made: TrainedCLIP) -> dict[str, torch.Tensor]:
    """Every number that came out."""
    found = dict(made.end) | {"losses": torch.tensor(made.losses, dtype=torch.float64)}
    for name, adapter in made.adapters.items():
        assert isinstance(adapter, LoRA)
        found |= {f"{name}.up": adapter.up, f"{name}.down": adapter.down}
    return found


def same(one: TrainedCLIP, other: TrainedCLIP) -> bool:
    first, second = made_of(one), made_of(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_an_interrupted_training_ends_in_the_same_bits_and_another_seed_in_others(folder, tmp_path, plan):
    whole = train_clip(towers(), prepared(folder), plan)
    state = tmp_path / "state"
    broken: list[TrainedCLIP] = []

    def cancel(done: int, total: int, loss: float) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hooks = ClipHooks(on_step=cancel, on_broken=broken.append)
        train_clip(towers(), prepared(folder), plan, hooks=hooks, checkpoint=Checkpoint(state))
    assert state.is_file() and len(broken[0].losses) == 3 and broken[0].losses == whole.losses[:3]
    resumed = train_clip(towers(), prepared(folder), plan, checkpoint=Checkpoint(state, resume=True))
    assert same(resumed, whole)
    other = (
        plan_of("from-scratch-small", SHORT | {"seed": 6})
        if plan is FULL
        else plan_of("CLIP-LoRA", SHORT | {"seed": 6})
    )
    assert not same(train_clip(towers(), prepared(folder), other), whole)


def test_a_state_of_other_data_or_another_start_is_refused(folder, tmp_path):
    state = Checkpoint(tmp_path / "state", resume=True)
    train_clip(towers(), prepared(folder), FULL, checkpoint=state)
    with pytest.raises(TrainingError, match="start was"):
        train_clip(towers(1), prepared(folder), FULL, checkpoint=state)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    next(other.glob("red_thing/*.png")).unlink()
    with pytest.raises(TrainingError, match="data was"):
        train_clip(towers(), prepared(other), FULL, checkpoint=state)


def test_validation_and_the_number_of_parts_change_nothing_that_is_learned(folder):
    plan = plan_of("from-scratch-small", SHORT | {"at_once": 6})
    one = train_clip(towers(), prepared(folder), plan, hooks=ClipHooks(every=0))
    assert same(train_clip(towers(), prepared(folder), plan, hooks=ClipHooks(every=1)), one)
    parts = plan_of("from-scratch-small", SHORT | {"at_once": 2})
    other = train_clip(towers(), prepared(folder), parts, hooks=ClipHooks(every=0))
    assert torch.tensor(other.losses).allclose(torch.tensor(one.losses), rtol=1e-5)  # float32


@pytest.mark.parametrize("tower, locked", [("text", "vis"), ("image", "text_")])
def test_a_locked_encoder_keeps_its_bits(folder, tower, locked):
    both, plan = towers(), plan_of("none", SHORT | {"towers": tower})
    before = {name: one.clone() for name, one in both.model.state_dict().items()}
    train_clip(both, prepared(folder), plan)
    after = both.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and not [name for name in moved if name.startswith(locked)] and "logit_scale" in moved


def test_a_lora_leaves_the_model_as_it_was_and_learns(folder):
    both = towers()
    before = {name: one.clone() for name, one in both.model.state_dict().items()}
    made = train_clip(both, prepared(folder), plan_of("CLIP-LoRA", SHORT))
    assert {name for name, one in both.model.state_dict().items() if not torch.equal(one, before[name])} == set()
    assert all(float(one.up.norm()) > 0 for one in made.adapters.values()) and len(made.adapters) == 12
    assert all(one.requires_grad for one in both.model.parameters())


def test_it_learns_to_tell_pictures_apart_that_it_has_not_seen(folder):
    plan = plan_of("from-scratch-small", {"steps": 60, "batch": 12, "lr": 3e-3, "held_out": 0.25, "average": 0.0})
    made = train_clip(towers(), prepared(folder), plan, hooks=ClipHooks(every=60))
    first, last = made.validation[0], made.validation[-1]
    assert made.judged == (6, True) and len(made.held_out) == 6 and last.loss < first.loss
    assert last.accuracy == 1.0 and last.found is None  # of three colours, far apart


def test_captions_are_found_again_and_their_retrieval_is_told(tmp_path):
    data = prepared(captioned(tmp_path / "p"))
    plan = plan_of("none", {"steps": 3, "batch": 4, "lr": 1e-4, "held_out": 0.5})
    made = train_clip(towers(), data, plan, hooks=ClipHooks(every=3))
    assert made.validation[-1].accuracy is None and made.validation[-1].found is not None
    assert made.validation[-1].count == 6


def test_stopping_keeps_what_was_learned(folder):
    def stop(done: int, total: int, loss: float) -> None:
        if done == 2:
            raise StopAndKeep

    made = train_clip(towers(), prepared(folder), FULL, hooks=ClipHooks(on_step=stop))
    assert made.is_early and len(made.losses) == 2


def test_the_factor_on_cosines_stays_between_one_and_a_hundred(folder):
    both = towers()
    with torch.no_grad():
        both.model.logit_scale.fill_(7.0)
    train_clip(both, prepared(folder), plan_of("none", SHORT))
    assert float(both.model.logit_scale.detach().exp()) <= 100.0001


def test_products_in_bf16_train_as_well(folder):
    plan = plan_of("none", SHORT | {"precision": "bfloat16"})
    both = new_towers(CONFIG, 0, torch.device("cpu"), "bfloat16")
    exact = train_clip(towers(), prepared(folder), plan_of("none", SHORT))
    made = train_clip(both, prepared(folder), plan)
    assert made.losses != exact.losses  # and within what 8 bits of mantissa leave, at cosines times 14
    assert torch.tensor(made.losses).allclose(torch.tensor(exact.losses), rtol=0.05)
    assert all(one.dtype == torch.float32 for one in both.model.parameters())


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"batch": 64}, "a batch of 64 is larger than the data, which has 2[0-9] pairs"),
        ({"loss": "sigmoid"}, "whose bias this CLIP does not have"),
        ({"blocks": "nothing.*"}, "fits no name"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(folder, changes, said):
    with pytest.raises((TrainingError, ClipTargetError), match=said):
        train_clip(towers(), prepared(folder), plan_of("none", SHORT | changes))


def test_the_loss_of_classes_needs_classes(tmp_path):
    with pytest.raises(TrainingError, match="some pictures have a caption but no class"):
        train_clip(towers(), prepared(captioned(tmp_path / "p")), plan_of("CLIP-LoRA", SHORT))
