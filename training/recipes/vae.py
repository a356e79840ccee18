"""The bundled autoencoder: tiny, four channels, four pixels for each cell, trained on drawn pictures only.

Both halves learn together first. Then the encoder stands as it is stored, in 16 bits, and the decoder alone learns on:
what is built on the latents stays right, and the decoder knows the latents that the file really gives.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from ...files.tensors import open_tensors
from ...vae_core.config import VAEConfig
from ...vae_core.networks.kl import AutoencoderKL
from ..device import products_in, sent
from ..loop import Checkpoint, OnStep, TrainingPlan, fit, trainable
from ..losses import divergence_of_channels, vae_loss
from ..scenes.textures import mixed_pictures
from ..vae.parts import DECODER, learning, only_learning
from .linear_start import start_linear_

CONFIG = VAEConfig(channels=32, multipliers=(3, 2, 3), blocks=1, latent=4, quant=True)
PLAN = TrainingPlan(steps=4000, seed=2, lr=8e-5, weight_decay=0.0, warm_up=50, average=0.995)
DECODER_SHARE = 0.3  # steps of the decoder alone, for each step before
BATCH = 4
SIDE_PX = 64
ZOOMS = (1.0, 2.0, 4.0, 4.0)  # one of them each step: parts of pictures of 64, 128 and 256 px
KL_WEIGHT = 5e-4
EDGE_WEIGHT = 0.5
FREE_NATS = 1.0  # for each value of a channel: without it, the fourth channel dies


def new_vae(seed: int, config: VAEConfig = CONFIG) -> AutoencoderKL:
    """An untrained autoencoder that starts as a linear one; the caller's random state is left alone."""
    with trainable(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return start_linear_(AutoencoderKL(config))


def train_vae(
    plan: TrainingPlan = PLAN,
    *,
    batch: int = BATCH,
    precision: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    on_step: OnStep | None = None,
    checkpoint: Checkpoint | None = None,
) -> AutoencoderKL:
    """Train the bundled autoencoder on `device`, where it stays; `precision` is that of the convolutions, the weights
    are float32. Pictures and noise are drawn on the CPU: every device sees the same.
    """
    model, alone = new_vae(plan.seed).to(torch.device(device)), decoder_plan(plan)
    total = plan.steps + alone.steps

    def told(before: int) -> OnStep | None:
        return (lambda done, _: on_step(before + done, total)) if on_step else None

    step_loss = _step_loss(model, batch, precision)
    fit(step_loss, dict(model.named_parameters()), plan, on_step=told(0), checkpoint=checkpoint)
    own = replace(checkpoint, path=decoder_state(checkpoint.path)) if checkpoint else None
    train_decoder_(model, alone, batch=batch, precision=precision, on_step=told(plan.steps), checkpoint=own)
    return model


def decoder_plan(plan: TrainingPlan) -> TrainingPlan:
    """The plan of the decoder alone, after `plan`."""
    return replace(plan, steps=max(1, round(plan.steps * DECODER_SHARE)), seed=plan.seed + 100)


def decoder_state(path: Path) -> Path:
    """Where the state of the decoder's own training lies, beside that of both halves."""
    return path.with_name(f"{path.stem}_decoder{path.suffix}")


def train_decoder_(
    model: AutoencoderKL,
    plan: TrainingPlan,
    *,
    batch: int = BATCH,
    precision: torch.dtype = torch.bfloat16,
    on_step: OnStep | None = None,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Round the model's weights to those of the file, and train the decoder in place; the encoder stays at them."""
    with trainable():
        model.load_state_dict({name: tensor.float() for name, tensor in stored_vae(model).items()})
        chosen = learning(model, DECODER)
        only_learning(model, chosen)
        fit(_step_loss(model, batch, precision), chosen, plan, on_step=on_step, checkpoint=checkpoint)
        model.requires_grad_(True)


def _step_loss(model: AutoencoderKL, batch: int, precision: torch.dtype) -> Callable[[int, Generator], Tensor]:
    device = next(model.parameters()).device

    def step_loss(step: int, generator: Generator) -> Tensor:
        zoom = ZOOMS[int(torch.randint(len(ZOOMS), (), generator=generator))]
        pixels = sent(mixed_pictures(batch, SIDE_PX, generator, zoom) * 2 - 1, device)
        with products_in(precision, device):
            posterior = model.posterior(pixels)
            reconstruction = model.decode(posterior.sample(generator))
        kl = divergence_of_channels(posterior.mean, posterior.logvar)
        return vae_loss(
            pixels, reconstruction, kl, kl_weight=KL_WEIGHT, edge_weight=EDGE_WEIGHT, free_nats=FREE_NATS
        ).total

    return step_loss


def stored_vae(model: AutoencoderKL) -> dict[str, Tensor]:
    """The tensors of the file: latent-diffusion's names, 16 bits."""
    return {name: tensor.detach().half() for name, tensor in model.state_dict().items()}


def read_vae(path: Path, config: VAEConfig = CONFIG) -> AutoencoderKL:
    """The model as stored, in float32."""
    model = new_vae(0, config)
    with open_tensors(path) as file:
        model.load_state_dict(file.read(file.shapes, dtype=torch.float32))
    return model.eval()
