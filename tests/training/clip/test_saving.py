"""What a trained CLIP leaves: files that others read, the way from before to after, and how far it has moved."""

import json
from pathlib import Path

import pytest
import torch

from clip_vae_lora.clip_core.checkpoint.find import find_clip, find_text_encoders
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.files.tensors import open_tensors
from clip_vae_lora.training.clip.blending import SHARES
from clip_vae_lora.training.clip.presets import plan_of
from clip_vae_lora.training.clip.work import BEST, ClipJob, work
from clip_vae_lora.training.loop import TrainingError
from clip_vae_lora.training.recipes.adapter import with_adapter

from .pictures import class_folder, prepared
from .test_run import SHORT, towers

FULL = plan_of("none", SHORT | {"held_out": 0.25})
LORA = plan_of("CLIP-LoRA", SHORT | {"held_out": 0.25, "lr": 0.05, "rank": 4, "alpha": 4.0})
HALF = 2.0**-11  # relative rounding of 16 bits


def _done(folder: Path, both, **how):
    job = ClipJob(folder / "state" / "made", "made", how.pop("plan", FULL), **how)
    data = prepared(class_folder(folder / "p")) if not (folder / "p").exists() else prepared(folder / "p")
    return work(job, both, data, lambda: folder / "made.safetensors")


def _read(path: Path) -> CLIP:
    with open_tensors(path) as file:
        source = find_clip(file.shapes, file.metadata)
        model = source.build()
        model.load_state_dict({n: one.float() for n, one in source.translate(file.read(source.names)).items()})
    return model


def test_both_encoders_are_read_again_with_their_sizes_and_the_weights_that_were_trained(tmp_path):
    both = towers()
    done = _done(tmp_path, both)
    model = _read(done.path)
    assert model.config == both.model.config and done.written == "both encoders"
    for name, one in both.model.state_dict().items():
        assert torch.allclose(model.state_dict()[name], one, rtol=HALF, atol=1e-7), name
    assert not (tmp_path / "state" / "made.state.safetensors").exists()
    log = [json.loads(line) for line in (tmp_path / "state" / "made.log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "pictures" not in line and "bands" not in line] == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "state" / "made.course.png").is_file()


def test_the_text_encoder_alone_is_one_that_prompts_are_encoded_with(tmp_path):
    both = towers()
    done = _done(tmp_path, both, writes="text encoder")
    with open_tensors(done.path) as file:
        (source,) = find_text_encoders(file.shapes, file.metadata)
        assert source.has_projection and source.config == both.model.config.text
        assert all(name.startswith(("text_model.", "text_projection.")) for name in file.shapes)


def test_a_lora_on_the_base_is_what_was_trained_and_its_strength_the_way_to_it(tmp_path):
    both, base = towers(), towers().model
    done = _done(tmp_path, both, plan=LORA)
    assert done.written == "LoRA" and all(torch.equal(a, b) for a, b in zip(both.model.parameters(), base.parameters()))
    loaded = with_adapter(base, done.path)
    for name, adapter in done.made.adapters.items():
        weight = base.get_parameter(f"{name}.weight").detach()
        expected = weight + adapter.delta(weight)
        assert torch.allclose(loaded.get_parameter(f"{name}.weight"), expected, rtol=0, atol=2 * HALF)
        assert not torch.allclose(expected, weight, atol=1e-3)
    assert done.sweep is not None and done.sweep.shares == SHARES and len(done.sweep.measured) == 11


def test_the_way_begins_with_before_and_ends_with_after_and_its_best_is_written(tmp_path):
    both = towers()
    before = {name: one.clone() for name, one in both.model.state_dict().items()}
    done = _done(tmp_path, both, share=BEST)
    first, last = done.sweep.measured[0], done.sweep.measured[-1]
    for way, judged in ((first, done.made.validation[0]), (last, done.made.validation[-1])):
        assert way.loss == pytest.approx(judged.loss, rel=1e-6)  # float32, on the shorter way through the last block
    best = max(one.right for one in done.sweep.measured)
    assert done.sweep.measured[done.sweep.best].right == best and done.share == done.sweep.shares[done.sweep.best]
    for name in done.made.start:
        expected = before[name].lerp(done.made.end[name], done.share)
        assert torch.allclose(both.model.state_dict()[name], expected, rtol=1e-5, atol=1e-7)


def test_the_way_at_a_share_of_nothing_is_the_model_as_it_was(tmp_path):
    both = towers()
    before = {name: one.clone() for name, one in both.model.state_dict().items()}
    _done(tmp_path, both, share=0.0)
    assert all(torch.equal(one, before[name]) for name, one in both.model.state_dict().items())


def test_drift_is_none_where_the_text_encoder_is_locked_and_least_where_only_the_last_block_learned(tmp_path):
    locked = _done(tmp_path, towers(), plan=plan_of("none", SHORT | {"towers": "image"}))
    assert all(one.mean == pytest.approx(1.0, abs=1e-12) for one in locked.drift)
    last = _done(tmp_path, towers(), plan=plan_of("none", SHORT | {"blocks": "1", "lr": 0.01}))
    told = {one.layer: one for one in last.drift}
    assert told["last but one"].mean == pytest.approx(1.0, abs=1e-12) and told["last"].mean < 0.9999
    assert told["last"].tokens == 3 * 8  # three sentences: start, "a photo of a X thing", end


def test_a_lora_that_was_not_trained_is_not_written(tmp_path):
    with pytest.raises(TrainingError, match="the rank is 0"):
        _done(tmp_path, towers(), writes="LoRA")


def test_what_broke_off_leaves_a_file_and_the_state(tmp_path):
    def cancel(done: int, total: int, loss: float) -> None:
        if done == 2:
            raise KeyboardInterrupt

    data = prepared(class_folder(tmp_path / "p"))
    job = ClipJob(tmp_path / "state" / "made", "made", FULL)
    with pytest.raises(KeyboardInterrupt):
        work(job, towers(), data, lambda: tmp_path / "made.safetensors", cancel)
    assert isinstance(_read(tmp_path / "made.safetensors"), CLIP)
    assert (tmp_path / "state" / "made.state.safetensors").is_file()
