"""The blocks of a CLIP's encoders computed twice: the same gradients, whatever is drawn, in less memory."""

import pytest
import torch

from clip_vae_lora.clip_core.config import CLIPConfig, TextConfig
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.networks.layers import Block
from clip_vae_lora.lora.weights.inject import inject, parameters, set_training
from clip_vae_lora.training.clip.augment import Augmentation
from clip_vae_lora.training.clip.course import ClipCourse
from clip_vae_lora.training.clip.objective import LOSSES
from clip_vae_lora.training.clip.presets import plan_of
from clip_vae_lora.training.clip.run import ClipHooks, train_clip
from clip_vae_lora.training.clip.towers import Towers
from clip_vae_lora.training.device import products_in
from clip_vae_lora.training.distributed import ProcessGroup
from clip_vae_lora.training.loop import Checkpoint
from clip_vae_lora.training.memory.recomputing import Recomputing, blocks_of

from ..clip.pictures import class_folder, prepared
from ..clip.test_run import SHORT, made_of, same
from ..clip.test_run import towers as new_towers
from ..clip.tiny_batch import CONFIG, far, gradients, squares, towers

ALONE = ProcessGroup(0, 1)
QUIET = ClipHooks(every=0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return class_folder(tmp_path_factory.mktemp("pictures") / "p")


def _with_dropout(both: Towers) -> Towers:
    """A LoRA with dropout beside its layers, both factors away from 0."""
    inject(both.model, "*.q_proj", 2, 1, dropout=0.5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for number, parameter in enumerate(parameters(both.model)):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    set_training(both.model, True)
    return both


def _in_bf16(both: Towers) -> Towers:
    return Towers(both.model, both.tokenizer, torch.bfloat16)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("at_once", [8, 3])
@pytest.mark.parametrize("changed", [lambda both: both, _with_dropout, _in_bf16], ids=["plain", "dropout", "bf16"])
def test_gradients_are_the_same_with_blocks_computed_twice(loss, at_once, changed):
    plain = gradients(changed(towers()), loss, at_once, ALONE)
    both = changed(towers())
    with Recomputing(True, products=lambda: products_in(both.precision, both.device)).over(both.model):
        assert far(gradients(both, loss, at_once, ALONE), plain) <= 1e-5
    assert all("forward" not in vars(block) for block in blocks_of(both.model))


def test_the_blocks_of_both_encoders_are_computed_twice_and_nothing_else():
    found = blocks_of(towers().model)
    assert len(found) == 4 and all(isinstance(block, Block) for block in found)


def test_a_block_below_all_that_learns_is_computed_once(monkeypatch):
    both, calls = towers(), []
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda block, *a, **k: calls.append(block) or forward(block, *a, **k))
    layers = both.model.text_model.encoder.layers
    both.model.requires_grad_(False)
    layers[1].requires_grad_(True)
    rows = both.rows(["a cat", "a dog"])[0]
    with Recomputing(True).over(both.model):
        both.texts(rows).square().sum().backward()
    assert calls == [layers[0], layers[1], layers[1]] and layers[1].mlp.fc1.weight.grad is not None


def test_much_less_is_kept_for_the_backward_pass():
    text = TextConfig(64, 8, 4, 256, 16)
    model = CLIP(CLIPConfig(text, CONFIG.vision))
    both = Towers(model, towers().tokenizer)
    rows = both.rows([f"a long sentence that says number {n} and goes on and on" for n in range(8)])[0]

    def kept(is_on: bool) -> int:
        found: dict[int, int] = {}
        recomputing = Recomputing(is_on)

        def pack(tensor):
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with recomputing.over(model), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            made = both.texts(rows)
        inputs = 8 * len(rows) * max(map(len, rows)) * text.width * 4 if is_on else 0  # which are kept beside those
        del made
        return sum(found.values()) - sum(one.nbytes for one in model.parameters() if one.data_ptr() in found) + inputs

    assert kept(True) < 0.2 * kept(False)


CUT = Augmentation(crop=0.5, flip=True, jitter=0.3)
PLANS = {
    "all": plan_of("from-scratch-small", SHORT | {"augmentation": CUT}),
    "LoRA": plan_of("CLIP-LoRA", SHORT | {"augmentation": CUT}),
    "two blocks": plan_of("none", SHORT | {"blocks": "1"}),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_training_is_the_same_and_goes_on_with_the_other_choice(pictures, tmp_path, name):
    numbers = vars(PLANS[name])
    on, off = (type(PLANS[name])(**numbers | {"checkpointing": way}) for way in ("on", "off"))
    plain = train_clip(new_towers(), prepared(pictures), off, hooks=QUIET)
    made = train_clip(new_towers(), prepared(pictures), on, hooks=QUIET)
    one, other = made_of(made), made_of(plain)
    told = [part for part in other if not part.endswith("k_proj.bias")]  # which has no gradient but rounding
    assert one.keys() == other.keys() and far({n: one[n] for n in told}, {n: other[n] for n in told}) <= 1e-5

    def cancel(done: int, total: int, loss: float) -> None:
        if done == 3:
            raise KeyboardInterrupt

    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        hooks = ClipHooks(cancel, every=0)
        train_clip(new_towers(), prepared(pictures), off, hooks=hooks, checkpoint=Checkpoint(state))
    resumed = train_clip(new_towers(), prepared(pictures), on, hooks=QUIET, checkpoint=Checkpoint(state, resume=True))
    assert resumed.losses[:3] == plain.losses[:3] and resumed.losses == pytest.approx(plain.losses, rel=1e-5)


def test_auto_turns_to_it_when_memory_runs_out_and_makes_the_step_again(pictures, monkeypatch):
    loss, calls = ClipCourse.loss, []

    def short_of_memory(course, step, generator):
        calls.append(step)
        if len(calls) == 2:
            loss(course, step, generator)  # which leaves gradients behind
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(course, step, generator)

    plan = plan_of("from-scratch-small", SHORT)
    plain = train_clip(new_towers(), prepared(pictures), plan, hooks=QUIET)
    monkeypatch.setattr(ClipCourse, "loss", short_of_memory)
    assert same(train_clip(new_towers(), prepared(pictures), plan, hooks=QUIET), plain)
    assert calls == [0, 1, 1, 2, 3, 4, 5]
    calls.clear()
    with pytest.raises(torch.OutOfMemoryError):
        off = plan_of("from-scratch-small", SHORT | {"checkpointing": "off"})
        train_clip(new_towers(), prepared(pictures), off, hooks=QUIET)


def test_a_choice_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="checkpointing is 'yes': expected one of 'auto', 'on', 'off'"):
        plan_of("none", {"checkpointing": "yes"})


def test_pictures_are_as_before_when_it_is_over():
    both = towers()
    before = both.images(squares()).detach()
    with Recomputing(True).over(both.model):
        assert torch.allclose(both.images(squares()).detach(), before, atol=1e-6)
    assert torch.equal(both.images(squares()).detach(), before)
