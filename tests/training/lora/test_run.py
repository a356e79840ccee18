"""LoRA training from end to end, on a small random diffusion model without any host."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clip_vae_lora.nodes.host.alone.diffusion import StandaloneModel, make_model, trainee
from clip_vae_lora.training.loop import Checkpoint, StopAndKeep, TrainingError
from clip_vae_lora.training.lora.course import Picture
from clip_vae_lora.training.lora.data.captions import CaptionPlan
from clip_vae_lora.training.lora.objective import Weighting
from clip_vae_lora.training.lora.plan import LoRAPlan
from clip_vae_lora.training.lora.run import Hooks, TrainedLoRA, train_lora
from clip_vae_lora.training.lora.targets import TargetError

from ...support.diffusion import small_diffusion

PLAN = LoRAPlan(steps=8, seed=3, lr=5e-3, rank=4, alpha=4, batch=2, warm_up=1)


def _model() -> StandaloneModel:
    return make_model(small_diffusion.CONFIG, small_diffusion.state(), "fp32")


def _encode(text: str) -> list:
    generator = torch.Generator().manual_seed(sum(map(ord, text)))
    return [[torch.randn(1, 7, 64, generator=generator), {}]]


def _pictures(count: int = 5) -> list[Picture]:
    generator = torch.Generator().manual_seed(0)
    sides = [(8, 8), (8, 8), (6, 10)]
    return [
        Picture(f"p{n}.png", torch.randn(1, 4, *sides[n % 3], generator=generator), f"picture, number {n}", 1 + n % 2)
        for n in range(count)
    ]


def _train(model: StandaloneModel | None = None, plan: LoRAPlan = PLAN, **more) -> TrainedLoRA:
    with trainee(model or _model()) as ready:
        return train_lora(ready, more.pop("pictures", _pictures()), _encode, plan, **more)


def _equal(one: TrainedLoRA, other: TrainedLoRA) -> bool:
    assert one.adapters.keys() == other.adapters.keys()
    return all(
        torch.equal(lora.up, other.adapters[name].up) and torch.equal(lora.down, other.adapters[name].down)
        for name, lora in one.adapters.items()
    )


def test_training_lowers_the_loss_and_leaves_the_model_as_it_was():
    model = _model()
    before = {name: tensor.clone() for name, tensor in model.named.state_dict().items()}
    alike = [Picture(one.name, 2.0 + 0.1 * one.latent, one.caption, one.repeats) for one in _pictures()]
    plan = LoRAPlan(steps=60, seed=1, lr=2e-2, rank=8, alpha=8, batch=4)
    made = _train(model, plan, pictures=alike, hooks=Hooks(every=20))
    assert [measured.step for measured in made.validation] == [0, 20, 40, 60]
    assert made.validation[-1].mean < 0.95 * made.validation[0].mean
    after = model.named.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert not any(module._forward_hooks for module in model.named.modules())
    assert made.sizes_in_cells == {"8 x 8": 4, "10 x 6": 1}


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    first = _train()
    torch.manual_seed(1234)  # the common random state has no say
    assert _equal(first, _train())
    assert not _equal(first, _train(plan=LoRAPlan(**{**vars(PLAN), "seed": 4})))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("stopped_at", [1, 4, 7])
def test_a_broken_off_training_goes_on_to_the_same_bits(tmp_path: Path, stopped_at: int, dropout: float):
    plan = LoRAPlan(**{**vars(PLAN), "dropout": dropout, "average": 0.9, "accumulate": 2})
    whole = _train(plan=plan)

    class Cancelled(BaseException):
        pass

    def on_step(done: int, total: int, loss: float) -> None:
        if done == stopped_at:
            raise Cancelled

    state = Checkpoint(tmp_path / "state.safetensors", every=100, resume=True)
    with pytest.raises(Cancelled):
        _train(plan=plan, hooks=Hooks(on_step), checkpoint=state)
    assert _equal(whole, _train(plan=plan, checkpoint=state))


def test_going_on_with_another_plan_or_other_pictures_is_refused_with_what_differs(tmp_path: Path):
    state = Checkpoint(tmp_path / "state.safetensors", every=100, resume=True)
    _train(checkpoint=state)
    with pytest.raises(TrainingError, match="min_snr was 0.0 and is 5.0"):
        _train(plan=LoRAPlan(**{**vars(PLAN), "weighting": Weighting(min_snr=5.0)}), checkpoint=state)
    with pytest.raises(TrainingError, match="data was"):
        _train(pictures=_pictures(4), checkpoint=state)


def test_stop_and_keep_ends_with_what_was_learned():
    def on_step(done: int, total: int, loss: float) -> None:
        if done == 3:
            raise StopAndKeep

    made = _train(hooks=Hooks(on_step))
    assert made.is_early and len(made.losses) == 3
    assert any(lora.up.abs().max() > 0 for lora in made.adapters.values())


def test_a_loss_that_is_no_number_stops_at_its_step_and_keeps_the_last_good_state(tmp_path: Path):
    odd = _pictures(2)
    odd[1] = Picture("bad.png", torch.full((1, 4, 8, 8), float("nan")), "x")
    state = Checkpoint(tmp_path / "state.safetensors", every=100)
    with pytest.raises(TrainingError, match="the loss became nan at step"):
        _train(plan=LoRAPlan(**{**vars(PLAN), "batch": 1}), pictures=odd, checkpoint=state, hooks=Hooks(every=0))
    assert state.path.exists()


def test_accumulated_batches_are_their_mean():
    """Two batches of one step give the gradient of their mean: the same as when each is a step of half the rate."""
    from clip_vae_lora.training.loop import TrainingPlan, fit

    weight = torch.nn.Parameter(torch.tensor([1.0]))
    seen = []

    def step_loss(number: int, generator: torch.Generator) -> Tensor:
        seen.append(number)
        return weight.sum() * (number + 1)

    losses = fit(step_loss, {"w": weight}, TrainingPlan(steps=2, seed=0, lr=0.1, clip_norm=100.0), parts=2)
    assert seen == [0, 1, 2, 3]
    assert losses[0] == pytest.approx(1.5)  # (1 * 1 + 1 * 2) / 2


def test_held_out_pictures_are_not_trained_on_and_judged():
    made = _train(plan=LoRAPlan(**{**vars(PLAN), "held_out": 0.4}), hooks=Hooks(every=4))
    assert len(made.held_out) == 2
    assert len(made.validation) == 3 and all(len(measured.bands) == 4 for measured in made.validation)


def test_what_is_kept_are_the_captions_with_the_class_word_in_the_triggers_place():
    asked: set[str] = set()

    def encode(text: str) -> list:
        asked.add(text)
        return _encode(text)

    pictures = [Picture(one.name, one.latent, f"a [trigger] with number {n}") for n, one in enumerate(_pictures(3))]
    plan = replace(PLAN, steps=4, captions=CaptionPlan("sks"), keep=0.5, class_word="toy")
    with trainee(_model()) as ready:
        train_lora(ready, pictures, encode, plan)
    assert asked == {f"a {word} with number {n}" for word in ("sks", "toy") for n in range(3)}


def test_the_base_is_kept_where_the_class_word_is_said():
    """With a heavy weight the answers to the class word move less than without."""
    moved = {}
    for keep in (0.0, 30.0):
        model = _model()
        made = _train(
            model, LoRAPlan(steps=40, seed=1, lr=1e-2, rank=4, alpha=4, batch=2, keep=keep, class_word="thing")
        )
        with trainee(model) as ready:
            latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
            prompt, level = ready.prepare(_encode("thing"), latent), torch.tensor([0.5])
            base = ready.denoised(latent, level, [prompt])
            with torch.no_grad():
                for name, lora in made.adapters.items():
                    ready.network.get_submodule(name).weight += (lora.up @ lora.down).view_as(
                        ready.network.get_submodule(name).weight
                    )
            moved[keep] = float((ready.denoised(latent, level, [prompt]) - base).norm().detach())
    assert moved[30.0] < 0.7 * moved[0.0]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"targets": "everything"}, TargetError, "choose one of"),
        ({"blocks": "nowhere:0"}, ValueError, "nowhere"),
        ({"blocks": "*:0"}, TargetError, "no layer"),
    ],
)
def test_layers_that_are_not_there_are_said(change, error, words):
    with pytest.raises(error, match=words):
        _train(plan=LoRAPlan(**{**vars(PLAN), **change}))


def test_no_pictures_is_a_sentence():
    with pytest.raises(TrainingError, match="at least one picture"):
        _train(pictures=[])


@pytest.mark.parametrize("odd", [{"steps": 0}, {"lr": -1.0}, {"held_out": 1.0}, {"rank": 0}, {"lr": float("nan")}])
def test_impossible_plans_are_refused(odd):
    with pytest.raises(ValueError, match="expected"):
        LoRAPlan(**odd)


def test_every_number_of_a_plan_is_told():
    told = LoRAPlan(captions=CaptionPlan(trigger="sks")).describe()
    assert told["captions.trigger"] == "sks" and told["weighting.min_snr"] == "0.0" and told["rank"] == "16"
