"""Kinds of adapters, optimisers and recomputing in a LoRA training; what each must leave as it is."""

from pathlib import Path

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import Adapter, LoRA
from clip_vae_lora.lora.kinds.kronecker import LoKr
from clip_vae_lora.lora.kinds.magnitude import DoRA
from clip_vae_lora.training.loop import Checkpoint
from clip_vae_lora.training.lora.plan import LoRAPlan
from clip_vae_lora.training.lora.run import Hooks, TrainedLoRA
from clip_vae_lora.training.lora.trainee import Trainee
from clip_vae_lora.training.memory.recomputing import Recomputing, blocks_of
from clip_vae_lora.training.optimisers import OPTIMISERS

from .test_run import PLAN, _encode, _model, _train


def _plan(**changes) -> LoRAPlan:
    return LoRAPlan(**{**vars(PLAN), **changes})


def _tensors(adapter: Adapter) -> list[torch.Tensor]:
    found = []
    for value in vars(adapter).values():
        found += _tensors(value) if hasattr(value, "delta") else [value] if isinstance(value, torch.Tensor) else []
    return found


def _same(one: TrainedLoRA, other: TrainedLoRA) -> bool:
    assert one.adapters.keys() == other.adapters.keys()
    return all(
        torch.equal(a, b)
        for name in one.adapters
        for a, b in zip(_tensors(one.adapters[name]), _tensors(other.adapters[name]), strict=True)
    )


def _answer(ready: Trainee) -> torch.Tensor:
    latent = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    prompts = [ready.prepare(_encode("thing"), latent)] * 2
    return ready.denoised(latent, torch.tensor([0.3, 0.7]), prompts).detach()


@pytest.mark.parametrize(
    ("kind", "expected"), [("LoRA", LoRA), ("LoCon", LoRA), ("DoRA", DoRA), ("LoKr", LoKr)], ids=str
)
def test_what_was_trained_is_the_change_of_the_weights_that_its_file_says(kind, expected):
    """The model with the adapters beside its layers answers as one whose weights have their `delta`."""
    from clip_vae_lora.lora.weights.inject import eject, inject, load
    from clip_vae_lora.nodes.host.alone.diffusion import trainee
    from clip_vae_lora.training.lora.targets import KINDS

    model = _model()
    made = _train(model, _plan(kind=kind, lr=2e-2, steps=4, alpha=8))
    assert all(isinstance(adapter, expected) for adapter in made.adapters.values())
    is_conv = [model.network.get_submodule(name).weight.ndim == 4 for name in made.adapters]
    assert any(is_conv) == (kind == "LoCon")
    with trainee(model) as ready:
        plain = _answer(ready)
        inject(ready.network, list(made.adapters), 4, 8, kind=KINDS[kind])
        load(ready.network, made.adapters)
        beside = _answer(ready)
        eject(ready.network)
        for name, adapter in made.adapters.items():
            weight = ready.network.get_submodule(name).weight
            weight.data += adapter.delta(weight.data)
        inside = _answer(ready)
    assert (beside - plain).norm() > 1e-3 * plain.norm()
    assert (beside - inside).norm() <= 1e-6 * (1 + inside.norm())


def test_a_lokr_that_is_whole_or_on_convolutions_is_its_delta_too():
    from clip_vae_lora.lora.weights.inject import collect, inject, parameters

    generator = torch.Generator().manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(6, 8, 3, padding=1), torch.nn.Conv2d(8, 12, 1, stride=2))
    x = torch.randn(2, 6, 8, 8, generator=generator)
    for rank in (1, 64):
        inject(net, "*", rank, 0.5, kind="LoKr", generator=generator)
        with torch.no_grad():
            for parameter in parameters(net):
                parameter += torch.randn(parameter.shape, generator=generator)
        beside, found = net(x), collect(net)
        from clip_vae_lora.lora.weights.inject import eject

        eject(net)
        kept = [layer.weight.detach().clone() for layer in net]
        with torch.no_grad():
            for name, adapter in found.items():
                net[int(name)].weight += adapter.delta(net[int(name)].weight)
        assert (net(x) - beside).norm() <= 1e-6 * beside.norm() and (found["0"].rank == 0) == (rank == 64)
        with torch.no_grad():
            for layer, weight in zip(net, kept):
                layer.weight.copy_(weight)


@pytest.mark.parametrize("kind", ["DoRA", "LoKr"])
def test_an_adapter_of_each_kind_begins_as_nothing(kind):
    from clip_vae_lora.lora.weights.inject import inject
    from clip_vae_lora.nodes.host.alone.diffusion import trainee

    with trainee(_model()) as ready:
        plain = _answer(ready)
        inject(ready.network, "*.to_*", 4, 4, kind=kind)
        assert (_answer(ready) - plain).norm() <= 1e-6 * plain.norm()


class Cancelled(BaseException):
    """What breaks a training off in these tests."""


@pytest.mark.parametrize(
    ("optimiser", "kind"),
    [
        *((name, "LoRA") for name in OPTIMISERS),
        ("AdamW", "DoRA"),
        ("schedule-free AdamW", "LoKr"),
        ("Adafactor", "LoCon"),
    ],
)
def test_each_optimiser_and_kind_goes_on_to_the_same_bits(tmp_path: Path, optimiser: str, kind: str):
    rate = 1.0 if optimiser == "Prodigy" else 5e-3
    plan = _plan(optimiser=optimiser, kind=kind, lr=rate, steps=6)
    whole = _train(plan=plan, hooks=Hooks(every=0))

    def on_step(done: int, total: int, loss: float) -> None:
        if done == 3:
            raise Cancelled

    state = Checkpoint(tmp_path / "state.safetensors", every=100, resume=True)
    with pytest.raises(Cancelled):
        _train(plan=plan, hooks=Hooks(on_step, every=0), checkpoint=state)
    assert _same(whole, _train(plan=plan, checkpoint=state, hooks=Hooks(every=0)))


@pytest.mark.parametrize("way", ["on", "off"])
def test_gradients_are_equal_with_blocks_computed_twice(way):
    made = _train(plan=_plan(recompute=way, steps=3, dropout=0.2), hooks=Hooks(every=0))
    plain = _train(plan=_plan(recompute="off", steps=3, dropout=0.2), hooks=Hooks(every=0))
    assert made.losses == pytest.approx(plain.losses, rel=1e-6)
    for name in plain.adapters:
        for a, b in zip(_tensors(made.adapters[name]), _tensors(plain.adapters[name]), strict=True):
            assert (a - b).abs().max() <= 1e-6


class Deep(torch.nn.Module):
    def __init__(self):
        super().__init__()
        make = lambda: torch.nn.ModuleDict({"a": torch.nn.Linear(32, 128), "b": torch.nn.Linear(128, 32)})  # noqa: E731
        self.blocks = torch.nn.ModuleList(Block(make()) for _ in range(12))

    def forward(self, x, told):
        for block in self.blocks:
            x = block(x, told=told)
        return x


class Block(torch.nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def forward(self, x, told):
        told["passed"] += 1  # a host's table, written where it is
        return x + self.parts["b"](torch.nn.functional.gelu(self.parts["a"](x))) * told["passed"]


def _kept_bytes(net: Deep, x: torch.Tensor, recomputing: Recomputing) -> tuple[int, torch.Tensor]:
    """What the forward pass keeps for the backward pass, and a gradient."""
    kept: dict[int, int] = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    net.zero_grad()
    with recomputing.over(net), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = net(x, {"passed": 0}).square().mean()
        inputs = len(blocks_of(net)) * x.nbytes if recomputing.is_on else 0  # which are kept beside those
        held = sum(kept.values()) + inputs
    loss.backward()
    return held, net.blocks[0].parts["a"].weight.grad.clone()


def test_less_is_kept_for_the_backward_pass_and_tables_of_the_host_are_as_they_were():
    torch.manual_seed(0)
    net, x = Deep(), torch.randn(256, 32)
    assert blocks_of(net) == list(net.blocks)
    plain, gradient = _kept_bytes(net, x, Recomputing(False))
    less, again = _kept_bytes(net, x, Recomputing(True))
    assert less < 0.4 * plain and (again - gradient).norm() <= 1e-6 * gradient.norm()
    assert all("forward" not in vars(block) for block in net.blocks)


def test_auto_turns_to_it_when_memory_runs_out_and_makes_the_step_again(monkeypatch):
    from clip_vae_lora.training.lora import course

    losses, calls = course.losses_of, []

    def short_of_memory(*given):
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(*given)

    plain = _train(plan=_plan(steps=3), hooks=Hooks(every=0))
    monkeypatch.setattr(course, "losses_of", short_of_memory)
    made = _train(plan=_plan(steps=3, recompute="auto"), hooks=Hooks(every=0))
    assert len(calls) == 4 and made.losses == pytest.approx(plain.losses, rel=1e-6)
    calls.clear()
    with pytest.raises(torch.OutOfMemoryError):
        _train(plan=_plan(steps=3, recompute="off"), hooks=Hooks(every=0))


def test_the_result_of_a_schedule_free_training_is_the_mean_and_validation_judges_it():
    """With a rate of noise the point that moves is far from the mean; both are known from a training by hand."""
    from clip_vae_lora.training.loop import AsResult, TrainingPlan, fit

    weight, seen, inside = torch.nn.Parameter(torch.tensor([5.0])), [], AsResult()

    def step_loss(number, generator):
        return ((weight - 1 - torch.randn(1, generator=generator)) ** 2).sum()

    def on_step(done, total):
        before = weight.detach().clone()
        with inside.now():
            seen.append(float(weight))
        assert torch.equal(weight.detach(), before)

    plan = TrainingPlan(steps=200, seed=0, lr=0.2, warm_up=5, clip_norm=10.0, optimiser="schedule-free AdamW")
    fit(step_loss, {"w": weight}, plan, on_step=on_step, as_result=inside)
    assert float(weight) == seen[-1] and abs(seen[-1] - 1) < 0.5
    steps = torch.tensor(seen)
    assert (steps[-20:].diff().abs().max()) < 0.02  # the mean hardly moves any more


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_each_optimiser_finds_the_least_squares(optimiser):
    from clip_vae_lora.training.loop import TrainingPlan, fit

    torch.manual_seed(0)
    weight, wanted, x = torch.nn.Parameter(torch.zeros(6, 4)), torch.randn(6, 4), torch.randn(64, 4)
    rate = 1.0 if optimiser == "Prodigy" else 0.05
    plan = TrainingPlan(steps=300, seed=0, lr=rate, warm_up=1, clip_norm=1e9, optimiser=optimiser)
    losses = fit(lambda *_: (x @ (weight - wanted).T).square().mean(), {"w": weight}, plan)
    assert losses[-1] < (2e-2 if optimiser == "schedule-free AdamW" else 1e-3) * losses[0]  # its mean remembers the way


def test_adafactor_keeps_rows_and_columns_alone():
    from clip_vae_lora.training.optimisers import make_optimiser

    weight = torch.nn.Parameter(torch.randn(6, 4, 3, 3))
    optimiser = make_optimiser("Adafactor", [{"params": [weight]}], 0.1, (0.9, 0.99))
    before = weight.detach().clone()
    weight.square().sum().backward()
    optimiser.step()
    memory = optimiser.state[weight]
    assert memory["rows"].shape == (6,) and memory["columns"].shape == (36,)
    assert torch.allclose(
        (weight.detach() - before).square().mean().sqrt(), torch.tensor(0.1), rtol=1e-3
    )  # clipped at 1
