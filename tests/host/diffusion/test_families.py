"""Every family of models under training: the gradient of its loss is what the loss does, with blocks computed once and
with blocks computed twice.

ComfyUI 0.33.0 writes over its values in several families and has kernels without a backward pass in others.
"""

import pytest
import torch

from clip_vae_lora.training.loop import TrainingPlan, fit
from clip_vae_lora.training.lora.objective import Examples, losses_of
from clip_vae_lora.training.memory.recomputing import Recomputing

from ...support.diffusion import trained_families as families


def _loss(trainee, case) -> torch.Tensor:
    latent = families.latent(case)
    examples = Examples(latent, [trainee.prepare(families.conditioning(case), latent)])
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(3))
    return losses_of(trainee, examples, trainee.levels.of(torch.tensor([0.5])), noise).sum()


def _gradient(trainee, case, own, is_on: bool) -> tuple[torch.Tensor, float]:
    """The gradient for the parameters, in a step as a training makes it."""
    recomputing, found = Recomputing(is_on, model=trainee.relief), {}

    def keep(done: int, total: int) -> None:
        found.update({name: parameter.grad.clone() for name, parameter in own.items() if parameter.grad is not None})

    for parameter in own.values():
        parameter.requires_grad_(True)
    try:
        with recomputing.over(trainee.network):
            losses = fit(
                lambda step, generator: _loss(trainee, case),
                own,
                TrainingPlan(steps=1, seed=0, lr=1e-30, clip_norm=1e30),
                on_step=keep,
                relief=recomputing,
            )
    finally:
        for parameter in own.values():
            parameter.requires_grad_(False)
    return torch.cat([found.get(name, torch.zeros_like(one)).flatten() for name, one in own.items()]), losses[0]


def _slope(trainee, case, own, gradient: torch.Tensor) -> float:
    """How fast the loss rises along its gradient, by two losses a little apart."""
    parts = dict(zip(own, gradient.split([one.numel() for one in own.values()])))
    step = 1e-2 / float(gradient.norm())

    def moved(by: float) -> float:
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.add_(parts[name].view(parameter.shape), alpha=by)
            loss = float(_loss(trainee, case))
            for name, parameter in own.items():
                parameter.add_(parts[name].view(parameter.shape), alpha=-by)
        return loss

    return (moved(step) - moved(-step)) / (2 * step)


@pytest.mark.parametrize("case", families.CASES, ids=lambda case: case.name)
def test_the_gradient_is_what_the_loss_does(comfyui, case):
    patcher = families.patcher(case)
    if patcher is None:
        pytest.skip(f"this ComfyUI has no {case.family.host}")
    with comfyui.ours.nodes.host.host.trainee(patcher) as trainee:
        own = {
            name: parameter
            for name, parameter in trainee.network.named_parameters()
            if parameter.ndim == 2 and parameter.is_floating_point()
        }
        gradient, loss = _gradient(trainee, case, own, False)
        again, same = _gradient(trainee, case, own, True)
        slope = _slope(trainee, case, own, gradient)
    assert same == pytest.approx(loss, rel=1e-6)
    assert float(gradient.norm()) > 0
    assert (again - gradient).norm() <= 1e-5 * gradient.norm()  # float32, sums in another order
    assert slope == pytest.approx(float(gradient.square().sum()), rel=0.02)  # float32 and a step that is not nothing
