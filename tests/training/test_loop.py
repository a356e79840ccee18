"""The loop's laws: seeded, cancellable, resumable to the bit, at home under inference mode."""

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from clip_vae_lora.training.loop import Checkpoint, TrainingError, TrainingPlan, Watched, fit
from clip_vae_lora.training.schedule import warm_cosine
from clip_vae_lora.training.state import step_generator

PLAN = TrainingPlan(steps=12, seed=5, lr=0.02, weight_decay=0.1, warm_up=3, average=0.9)


class _Cancelled(RuntimeError):
    pass


def _model() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 2))


def _loss(model: nn.Module):
    def step_loss(step: int, generator: Generator) -> Tensor:
        x = torch.randn(32, 6, generator=generator)
        target = torch.stack([x[:, 0] * x[:, 1], x[:, 2].abs()], dim=1)
        return (model(x) - target).square().mean()

    return step_loss


def _train(plan: TrainingPlan = PLAN, **hooks) -> dict[str, Tensor]:
    model = _model()
    fit(_loss(model), dict(model.named_parameters()), plan, **hooks)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _stop_at(step: int):
    def on_step(done: int, total: int) -> None:
        if done == step:
            raise _Cancelled

    return on_step


def test_training_lowers_the_loss():
    model = _model()
    losses = fit(_loss(model), dict(model.named_parameters()), TrainingPlan(steps=150, seed=0, lr=0.02, warm_up=5))
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20])


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    assert _equal(_train(), _train())
    assert not _equal(_train(), _train(TrainingPlan(steps=12, seed=6, lr=0.02)))


@pytest.mark.parametrize("stop", [1, 4, 11])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, stop: int):
    path = tmp_path / "state.safetensors"
    with pytest.raises(_Cancelled):
        _train(on_step=_stop_at(stop), checkpoint=Checkpoint(path, every=1000))
    assert _equal(_train(checkpoint=Checkpoint(path, resume=True)), _train())


def test_a_finished_training_resumes_to_its_own_result(tmp_path: Path):
    checkpoint = Checkpoint(tmp_path / "state.safetensors", resume=True)
    assert _equal(_train(checkpoint=checkpoint), _train(checkpoint=checkpoint))


def test_a_checkpoint_does_not_change_the_result(tmp_path: Path):
    assert _equal(_train(checkpoint=Checkpoint(tmp_path / "state.safetensors", every=2)), _train())


def test_cancelling_stops_at_once_and_passes_the_exception_on():
    steps = []

    def on_step(done: int, total: int) -> None:
        steps.append((done, total))
        _stop_at(3)(done, total)

    with pytest.raises(_Cancelled):
        _train(on_step=on_step)
    assert steps == [(1, 12), (2, 12), (3, 12)]


def test_another_trainings_state_is_refused_in_one_sentence(tmp_path: Path):
    path = tmp_path / "state.safetensors"
    _train(checkpoint=Checkpoint(path))
    with pytest.raises(TrainingError, match="state of another training"):
        _train(TrainingPlan(steps=13, seed=5, lr=0.02), checkpoint=Checkpoint(path, resume=True))


def test_training_works_under_inference_mode_with_parameters_made_outside():
    model = _model()
    with torch.inference_mode():
        fit(_loss(model), dict(model.named_parameters()), PLAN)
        assert torch.is_inference_mode_enabled()
    assert _equal(model.state_dict(), _train())


def test_parameters_made_under_inference_mode_are_refused():
    with torch.inference_mode():
        model = _model()
    with pytest.raises(TrainingError, match="inference_mode"):
        fit(_loss(model), dict(model.named_parameters()), PLAN)


def test_a_loss_that_is_no_number_stops_the_training():
    model = _model()
    with pytest.raises(TrainingError, match="became nan at step 1"):
        fit(lambda step, generator: model(torch.zeros(1, 6)).sum() * torch.nan, dict(model.named_parameters()), PLAN)


def test_without_an_average_and_clipping_the_steps_are_adamw_s():
    ours, theirs = _model(), _model()
    plan = TrainingPlan(steps=5, seed=1, lr=0.01, weight_decay=0.1, warm_up=2, clip_norm=1e9)
    fit(_loss(ours), dict(ours.named_parameters()), plan)
    matrices = [p for p in theirs.parameters() if p.ndim == 2]
    vectors = [p for p in theirs.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    for step in range(5):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * warm_cosine(step, 5, 2)
        optimizer.zero_grad()
        _loss(theirs)(step, step_generator(1, step)).backward()
        optimizer.step()
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)  # the same arithmetic, grouped differently


def test_the_average_is_the_exponential_moving_one():
    plan, values = TrainingPlan(steps=3, seed=0, lr=0.1, average=0.5, warm_up=1), []
    weight = nn.Parameter(torch.tensor([1.0]))
    fit(
        lambda step, generator: weight.square().sum(),
        {"weight": weight},
        plan,
        on_step=lambda done, total: values.append(float(weight.detach())),
    )
    expected = 1.0
    for step, value in enumerate(values):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert float(weight.detach()) == pytest.approx(expected, rel=1e-6)


def test_steps_and_seeds_do_not_share_random_numbers():
    draws = {
        float(torch.rand((), generator=step_generator(seed, step), dtype=torch.float64))
        for seed in range(4)
        for step in range(50)
    }
    assert len(draws) == 200


def test_the_rate_climbs_and_then_falls_to_its_floor():
    rates = [warm_cosine(step, 100, 10) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert all(a >= b for a, b in zip(rates[10:], rates[11:]))
    assert rates[-1] == pytest.approx(0.02, abs=1e-3)


@pytest.mark.parametrize("numbers", [{"steps": 0}, {"lr": 0.0}, {"average": 1.0}, {"clip_norm": 0.0}])
def test_a_plan_that_cannot_be_is_refused(numbers: dict[str, float]):
    with pytest.raises(TrainingError, match="expected"):
        TrainingPlan(**({"steps": 1, "seed": 0, "lr": 0.1} | numbers))


def test_a_learning_rate_falls_to_its_floor_and_decay_and_bounds_are_those_asked_for():
    start = torch.tensor([[2.0, -2.0]])

    def after(**how) -> torch.Tensor:
        weight = nn.Parameter(start.clone())
        plan = TrainingPlan(steps=1, seed=0, lr=0.5, warm_up=0, weight_decay=0.1, floor=0.0)
        fit(lambda step, generator: 0 * weight.sum(), {"embedding": weight}, plan, **how)
        return weight.detach()

    assert torch.equal(after(), start)  # an embedding without a gradient
    assert torch.allclose(after(decays={"embedding": 0.1}), start * (1 - 0.5 * 0.1))
    assert torch.equal(after(bounds={"embedding": (-1.0, 1.5)}), torch.tensor([[1.5, -1.0]]))
    assert warm_cosine(9, 10, 0, 0.0) < 0.03 and warm_cosine(10, 10, 0, 0.0) == 0.0


def test_plans_that_say_nothing_new_are_described_as_they_always_were():
    told = TrainingPlan(steps=1, seed=0, lr=1.0).describe()
    assert not {"plan.optimiser", "plan.floor", "plan.eps"} & told.keys()
    assert TrainingPlan(steps=1, seed=0, lr=1.0, floor=0.0, eps=1e-6).describe() == told | {
        "plan.floor": "0.0",
        "plan.eps": "1e-06",
    }


def test_a_first_step_that_is_made_twice_is_judged_once():
    judged: list[int] = []
    watched = Watched(lambda number, generator: torch.zeros(()), judged.append, 1, None, None)
    for _ in range(2):
        watched.step_loss(0, step_generator(0, 0))
    assert judged == [0]
