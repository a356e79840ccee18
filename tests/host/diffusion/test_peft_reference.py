"""Ten steps of our training on a small SD1.5 beside diffusers and PEFT: the same data, noise and start, other code."""

import pytest
import torch

from clip_vae_lora.lora.weights.inject import collect, eject, inject
from clip_vae_lora.training.loop import trainable
from clip_vae_lora.training.lora.course import Picture
from clip_vae_lora.training.lora.plan import LoRAPlan
from clip_vae_lora.training.lora.run import Hooks, train_lora
from clip_vae_lora.training.lora.targets import chosen_layers
from clip_vae_lora.training.schedule import warm_cosine

from ...support import models

CONTEXT, RANK = 16, 4
PLAN = LoRAPlan(
    steps=10, seed=3, lr=1e-3, rank=RANK, alpha=2.0, batch=2, warm_up=2, targets="attention", weight_decay=0.01
)


class Recorded:
    """A trainee that writes down what each step is made of."""

    def __init__(self, trainee):
        self.__dict__ |= {name: getattr(trainee, name) for name in ("network", "device", "levels")}
        self._trainee, self.steps = trainee, []

    def __getattr__(self, name):
        return getattr(self._trainee, name)

    def noised(self, level, noise, latent):
        self.steps.append([level, noise, latent])
        return self._trainee.noised(level, noise, latent)

    def denoised(self, noisy, level, prompts):
        self.steps[-1].append(torch.cat([prompt["c_crossattn"].cond for prompt in prompts]))
        return self._trainee.denoised(noisy, level, prompts)


def _reference(diffusers, patcher):
    """diffusers' network with the same weights, and the names of its layers by ours."""
    import comfy.utils

    network = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64, 128, 128), cross_attention_dim=CONTEXT, attention_head_dim=8, layers_per_block=2
    )
    names = comfy.utils.unet_to_diffusers(patcher.model.model_config.unet_config)
    weights = patcher.model.diffusion_model.state_dict()
    network.load_state_dict({theirs: weights[names[theirs]] for theirs in network.state_dict()})
    return network, {ours.removesuffix(".weight"): theirs.removesuffix(".weight") for theirs, ours in names.items()}


def _start(network) -> dict:
    """The factors that our training starts from."""
    names = list(chosen_layers(network, PLAN.targets, "", RANK))
    inject(network, names, RANK, PLAN.alpha, generator=torch.Generator().manual_seed(PLAN.seed))
    start = collect(network)
    eject(network)
    return start


def _with_peft(network, start: dict, names: dict):
    """PEFT's adapters beside the same layers, from the same start; the parameters that learn."""
    peft = pytest.importorskip("peft")
    wanted = [names[name] for name in start]
    network.requires_grad_(False)
    network.add_adapter(peft.LoraConfig(r=RANK, lora_alpha=PLAN.alpha, target_modules=wanted))
    for name, adapter in start.items():
        layer = network.get_submodule(names[name])
        layer.lora_A["default"].weight.data.copy_(adapter.down)
        layer.lora_B["default"].weight.data.copy_(adapter.up)
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _losses(diffusers, patcher, start: dict, steps: list) -> list[float]:
    """The losses of the reference over the recorded steps."""
    network, names = _reference(diffusers, patcher)
    learning = _with_peft(network, start, names)
    scheduler = diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    optimizer = torch.optim.AdamW(learning, betas=(0.9, 0.99), weight_decay=PLAN.weight_decay)
    losses = []
    for step, (level, noise, latent, text) in enumerate(steps):
        for group in optimizer.param_groups:
            group["lr"] = PLAN.lr * warm_cosine(step, PLAN.steps, PLAN.warm_up)
        time = patcher.model.model_sampling.timestep(level).long()
        guess = network(scheduler.add_noise(latent, noise, time), time, text).sample
        loss = torch.nn.functional.mse_loss(guess, noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_ten_steps_have_the_losses_of_diffusers_and_peft(comfyui):
    diffusers = pytest.importorskip("diffusers", exc_type=ImportError)
    patcher = models.sd15_model(context_dim=CONTEXT)
    generator = torch.Generator().manual_seed(0)
    pictures = [Picture(f"p{n}", torch.randn(1, 4, 8, 8, generator=generator) * 5, f"caption {n}") for n in range(4)]
    texts = {picture.caption: torch.randn(1, 77, CONTEXT, generator=generator) for picture in pictures}
    with comfyui.ours.nodes.host.host.trainee(patcher) as trainee:
        start = _start(trainee.network)
        recorded = Recorded(trainee)
        ours = train_lora(recorded, pictures, lambda text: [[texts[text], {}]], PLAN, hooks=Hooks(every=0)).losses
    with trainable():  # ComfyUI turns gradients off for the whole process
        theirs = _losses(diffusers, patcher, start, recorded.steps)
    assert len(ours) == PLAN.steps and max(ours) > 1.001 * min(ours)
    assert ours == pytest.approx(theirs, rel=1e-5)  # float32 by other kernels, ten steps of it
