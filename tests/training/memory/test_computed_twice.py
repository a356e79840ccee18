"""Blocks computed a second time for the backward pass, where networks write into what they were given."""

import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from clip_vae_lora.training.loop import TrainingError, TrainingPlan, fit
from clip_vae_lora.training.memory.computed_twice import computed_twice
from clip_vae_lora.training.memory.recomputing import Recomputing


class Block(nn.Module):
    """A block as hosts write theirs (`inplace`), or the same with a new tensor for each result."""

    def __init__(self, inplace: bool):
        super().__init__()
        self.norm = nn.LayerNorm(16, elementwise_affine=False)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.inplace = inplace

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        if self.inplace:
            x += self.first(self.norm(x)) * gate
            x[:, :8] += torch.tanh(self.second(self.norm(x)))[:, :8] * gate[:8]
            x.mul_(gate.cos())
            return x
        x = x + self.first(self.norm(x)) * gate
        second = torch.tanh(self.second(self.norm(x)))
        x = torch.cat([x[:, :8] + second[:, :8] * gate[:8], x[:, 8:]], 1)
        return x * gate.cos()


class Net(nn.Module):
    def __init__(self, inplace: bool):
        super().__init__()
        self.gate = nn.Parameter(torch.linspace(0.1, 1, 16))
        self.blocks = nn.ModuleList(Block(inplace) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        gate = self.gate * 2
        for block in self.blocks:
            x = block(x, gate=gate)
        if self.blocks[0].inplace:
            x += x.square()  # outside of the blocks too
            return x
        return x + x.square()


def _trained(inplace: bool, is_on: bool) -> tuple[list[float], list[Tensor], Recomputing]:
    torch.manual_seed(0)
    net, recomputing = Net(inplace), Recomputing(is_on)
    x = torch.randn(8, 16)
    plan = TrainingPlan(steps=3, seed=0, lr=1e-2, warm_up=1)
    with recomputing.over(net):
        losses = fit(
            lambda step, generator: (net(x) - 1).square().mean(),
            dict(net.named_parameters()),
            plan,
            relief=recomputing,
        )
    return losses, [parameter.detach() for parameter in net.parameters()], recomputing


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("is_on", [False, True])
def test_a_network_that_writes_over_its_values_learns_what_one_that_does_not_learns(inplace: bool, is_on: bool):
    losses, weights, _ = _trained(False, False)
    own_losses, own_weights, recomputing = _trained(inplace, is_on)
    assert own_losses == pytest.approx(losses, rel=1e-6)
    for one, other in zip(own_weights, weights, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)  # float32, the same sums in another order
    assert recomputing.keeps_overwritten == inplace  # others are not slowed down by it


def test_without_copies_torch_refuses_what_was_written_into():
    """What a block writes over is no input any more for its second call, whether or not it needs a gradient."""
    for needs_gradient in (False, True):
        x = torch.ones(2, 16).requires_grad_(needs_gradient) * 1
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            computed_twice(Block(inplace=True), [x, torch.ones(16)], {})
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            computed_twice(lambda one: one.mul_(2), [x], {})


@dataclass
class Shift:
    shift: Tensor
    name: str


class Slots:
    __slots__ = ("data", "frames")

    def __init__(self, data: Tensor):
        self.data, self.frames = data, 1


def _many(x: Tensor, shifts: tuple, *, times: Slots, more: list, told: dict) -> tuple:
    told["seen"] = told.get("seen", 0) + 1
    scale = told["seen"] * times.data.exp()
    return {"kept": 1}, (x * scale + shifts[0].shift, more[0].sin() * x), [shifts[0].name, torch.arange(3)]


def test_tensors_in_objects_lists_and_tuples_get_their_gradients_and_tables_are_as_they_were():
    def run(twice: bool) -> list[Tensor]:
        torch.manual_seed(1)
        own = [torch.randn(3, requires_grad=True) for _ in range(4)]
        x, shift, time, more = [one * 1 for one in own]  # of a graph that goes on outside
        given, told = [x, (Shift(shift, "a"),)], {}
        named = {"times": Slots(time), "more": [more], "told": told}
        made = computed_twice(_many, given, named) if twice else _many(*given, **named)
        table, (first, second), (name, numbers) = made
        assert table == {"kept": 1} and name == "a" and numbers.tolist() == [0, 1, 2] and told == {"seen": 1}
        (first.square().sum() + second.sum()).backward()
        assert told == {"seen": 1}
        return [one.grad for one in own]

    for one, other in zip(run(True), run(False), strict=True):
        torch.testing.assert_close(one, other)


def test_the_second_call_draws_the_same_random_numbers_and_others_draw_on():
    weight = torch.ones(64, requires_grad=True)
    torch.manual_seed(3)
    made = computed_twice(lambda x: nn.functional.dropout(x * weight, 0.5), [torch.ones(64)], {})
    drawn = torch.get_rng_state()
    made.sum().backward()
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(weight.grad, made.detach())


def test_a_tensor_handed_on_in_a_table_is_refused():
    def forward(x: Tensor, told: dict) -> Tensor:
        told["next"] = x * 2
        return x

    with pytest.raises(TrainingError, match="'next'.*set checkpointing to off"):
        computed_twice(forward, [torch.ones(2), {}], {})


def test_no_gradient_is_asked_for_what_does_not_lead_to_the_loss():
    weight = torch.ones(3, requires_grad=True)
    first, _ = computed_twice(lambda x: (x * weight, x * weight * 5), [torch.ones(3)], {})
    first.sum().backward()
    assert torch.equal(weight.grad, torch.ones(3))


def test_what_the_second_call_computed_is_let_go_at_once():
    """Else the blocks' values would pile up in the backward pass, which is what recomputing is there to spare."""
    alive, most = weakref.WeakSet(), []

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            inner = (x * self.weight).sin()
            if torch.is_grad_enabled():
                alive.add(inner)
                most.append(len(alive))
            return inner.cos() * x

    x = torch.randn(4)
    for block in [Inner() for _ in range(6)]:
        x = computed_twice(block, [x], {})
    x.sum().backward()
    assert len(most) == 6 and max(most) <= 2
