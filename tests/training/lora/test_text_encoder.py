"""A text encoder that learns beside the model: its gradient, its rate, resume, and what it may not change."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clip_vae_lora.clip_core.checkpoint.find import find_text_encoders
from clip_vae_lora.clip_core.families import FAMILIES
from clip_vae_lora.clip_core.prompts.plan import PromptSettings, plan_prompt
from clip_vae_lora.lora.weights.inject import eject, inject, learned, silenced
from clip_vae_lora.nodes.host.alone.clip import StandaloneClip, make_clip
from clip_vae_lora.nodes.host.alone.diffusion import trainee
from clip_vae_lora.nodes.host.alone.prompts import encode_part, text_encoders
from clip_vae_lora.training.distributed import ProcessGroup
from clip_vae_lora.training.loop import Checkpoint, TrainingError
from clip_vae_lora.training.lora import course as courses
from clip_vae_lora.training.lora.course import Course
from clip_vae_lora.training.lora.data.captions import CaptionPlan
from clip_vae_lora.training.lora.plan import LoRAPlan
from clip_vae_lora.training.lora.run import Hooks, TrainedLoRA, train_lora
from clip_vae_lora.training.lora.targets import TargetError
from clip_vae_lora.training.state import step_generator

from ...support import tiny
from .test_run import _model, _pictures

PLAN = LoRAPlan(steps=4, seed=3, lr=5e-3, rank=4, alpha=4, batch=2, warm_up=0, text_encoder_rate=0.5)
NUMBER = 0  # of a batch of several pictures


def _clip(seed: int = 0) -> StandaloneClip:
    state = tiny.text_state()
    if seed:
        state = {name: tensor + 0.01 for name, tensor in state.items()}
    (source,) = find_text_encoders({name: tuple(one.shape) for name, one in state.items()})
    return make_clip(FAMILIES["sd1"], [(source, source.translate(state))], "fp32", lambda *_: "no embeddings here")


def _encoding(clip: StandaloneClip, asked: list[str] | None = None):
    ports = text_encoders(clip).ports

    def encode(text: str) -> list:
        if asked is not None:
            asked.append(text)
        planned = plan_prompt(text, ports, PromptSettings())
        return encode_part(clip, planned.parts[0], planned.settings, {})[0]

    return encode


def _train(clip: StandaloneClip, plan: LoRAPlan = PLAN, **more) -> TrainedLoRA:
    with trainee(_model(), clip if plan.text_encoder_rate else None) as ready:
        return train_lora(ready, _pictures(), more.pop("encode", _encoding(clip)), plan, **more)


def _factors(made: TrainedLoRA) -> list[torch.Tensor]:
    both = [*made.adapters.values(), *made.text_adapters.values()]
    return [tensor for lora in both for tensor in (lora.up, lora.down)]


class _Ready:
    """A course whose model and text encoder have adapters that change something."""

    def __init__(self, ready, encode, plan: LoRAPlan):
        self.ready, self.course = ready, Course(ready, _pictures(), encode, plan)
        generator = torch.Generator().manual_seed(1)
        for network in (ready.network, ready.text.network):
            names = inject(network, ["*attn*"] if network is ready.text.network else ["*to_*"], 4, generator=generator)
            parameters = learned(network, names.names)
            with torch.no_grad():
                for name, one in parameters.items():
                    if name.endswith("up"):
                        one += 0.1 * torch.randn(one.shape, generator=generator)
        self.own = list(parameters.values())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for network in (self.ready.network, self.ready.text.network):
            eject(network)

    def loss(self) -> torch.Tensor:
        return self.course.loss(NUMBER, step_generator(0, 1))


@pytest.mark.parametrize("keep", [0.0, 2.0])
def test_the_gradient_is_the_slope_of_the_loss(keep):
    clip, plan = _clip(), replace(PLAN, batch=3, keep=keep, class_word="toy", captions=CaptionPlan(drop_whole=0.3))
    with trainee(_model(), clip) as ready, torch.enable_grad(), _Ready(ready, _encoding(clip), plan) as it:
        gradients = torch.autograd.grad(it.loss(), it.own)
        length = torch.cat([one.flatten() for one in gradients]).norm()

        def moved(by: float) -> float:
            with torch.no_grad():
                for one, gradient in zip(it.own, gradients):
                    one.add_(gradient, alpha=by / float(length))
            return float(it.loss().detach())

        slope = (moved(0.05) - moved(-0.1)) / 0.1
    assert float(length) > 0
    assert slope == pytest.approx(float(length), rel=0.02)  # float32, and a step that is not nothing


def test_the_shares_of_two_processes_sum_up_to_the_whole(monkeypatch):
    clip, plan = _clip(), replace(PLAN, batch=3)
    with trainee(_model(), clip) as ready, torch.enable_grad(), _Ready(ready, _encoding(clip), plan) as it:
        whole = torch.autograd.grad(it.loss(), it.own)
        assert len(courses.batch_at(NUMBER, it.course.groups, plan.batch, plan.seed)) > 1
        shares = []
        for rank in (0, 1):
            monkeypatch.setattr(courses, "current_group", lambda rank=rank: ProcessGroup(rank, 2))
            shares.append(torch.autograd.grad(it.loss(), it.own))
    for one, *parts in zip(whole, *shares):
        assert (sum(parts) - one).norm() <= 1e-5 * one.norm()  # float32, batches of other sizes


def test_what_the_base_said_is_not_what_is_said_now():
    clip = _clip()
    encode = _encoding(clip)
    before = encode("a toy")[0][0]
    with trainee(_model(), clip) as ready, torch.enable_grad(), _Ready(ready, encode, PLAN) as it:
        latent = it.course.latents["p0.png"]
        (now,), (base,) = it.course.prompts.of(["a toy"], [latent]), it.course.prompts.of_base(["a toy"], [latent])
        with silenced(clip.towers):
            (silent,) = it.course.prompts.of_base(["another"], [latent])
        (again,) = it.course.prompts.of_base(["another"], [latent])
        assert now.requires_grad and not base.requires_grad
        assert torch.equal(base, before) and torch.equal(silent, again)
        assert (now - base).norm() > 1e-2 * base.norm()
    assert torch.equal(encode("a toy")[0][0], before)  # nothing of what was learned is kept


def test_at_0_the_model_learns_alone_and_its_captions_are_encoded_once():
    asked: list[str] = []
    clip = _clip()
    made = _train(clip, replace(PLAN, text_encoder_rate=0.0), encode=_encoding(clip, asked))
    assert not made.text_adapters and len(asked) == len(set(asked))
    assert "text_encoder_rate" not in replace(PLAN, text_encoder_rate=0.0).describe()  # older states go on


def test_it_learns_at_its_rate_and_is_as_it_was_at_the_end():
    clip, asked = _clip(), []
    before = {name: tensor.clone() for name, tensor in clip.towers.state_dict().items()}
    made = _train(clip, replace(PLAN, steps=1, weight_decay=0.0), encode=_encoding(clip, asked))
    furthest = [
        max(float(lora.up.abs().max()) for lora in adapters.values())
        for adapters in (made.adapters, made.text_adapters)
    ]
    assert furthest[1] == pytest.approx(0.5 * furthest[0], rel=1e-3)  # a first step of Adam is as long as its rate
    assert len(made.text_adapters) == 12 and all(name.startswith("clip_l.") for name in made.text_adapters)
    after = clip.towers.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert not any(module._forward_hooks for module in clip.towers.modules())


def test_a_broken_off_training_goes_on_to_the_same_bits(tmp_path: Path):
    plan = replace(PLAN, dropout=0.3, average=0.9, accumulate=2, keep=0.5, class_word="toy", recompute="on")
    whole = _train(_clip(), plan, hooks=Hooks(every=2))

    class Cancelled(BaseException):
        pass

    def on_step(done: int, total: int, loss: float) -> None:
        if done == 2:
            raise Cancelled

    state, early = Checkpoint(tmp_path / "state.safetensors", every=100, resume=True), []
    with pytest.raises(Cancelled):
        _train(_clip(), plan, hooks=Hooks(on_step, every=2, on_broken=early.append), checkpoint=state)
    assert len(early[0].text_adapters) == 12
    again = _train(_clip(), plan, hooks=Hooks(every=2), checkpoint=state)
    assert all(torch.equal(one, other) for one, other in zip(_factors(whole), _factors(again), strict=True))
    with pytest.raises(TrainingError, match="text_encoder was"):
        _train(_clip(seed=1), plan, checkpoint=state)


def test_what_it_learns_lowers_the_loss_beside_the_model():
    measured = {}
    for rate in (0.0, 1.0):
        plan = replace(PLAN, steps=15, lr=2e-2, text_encoder_rate=rate)
        measured[rate] = _train(_clip(), plan, hooks=Hooks(every=15)).validation
    assert measured[0.0][0] == measured[1.0][0]  # before any step both are the base
    assert measured[1.0][-1].mean < measured[1.0][0].mean


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"blocks": "text:0"}, TargetError, "no layer of this text encoder is chosen by 'linear' and 'text:0'"),
        ({"blocks": "model:0"}, TargetError, "no layer of this model"),
    ],
)
def test_a_text_encoder_without_a_chosen_layer_is_said(change, error, words):
    with pytest.raises(error, match=words):
        _train(_clip(), replace(PLAN, **change))


def test_a_text_encoder_without_gradients_is_a_sentence():
    clip = _clip()
    encode = _encoding(clip)

    def constant(text: str) -> list:
        ((hidden, told),) = encode(text)
        return [[hidden.detach(), {}]]

    with pytest.raises(TrainingError, match="no gradient comes through this CLIP"):
        _train(clip, encode=constant)


@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf")])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(ValueError, match="text encoder's rate"):
        replace(PLAN, text_encoder_rate=rate)
