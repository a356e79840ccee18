"""The bundled autoencoder: tiny, four channels, four pixels for each cell, trained on drawn pictures only."""

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
from .linear_start import start_linear_

CONFIG = VAEConfig(channels=32, multipliers=(3, 2, 3), blocks=1, latent=4, quant=True)
PLAN = TrainingPlan(steps=4000, seed=2, lr=8e-5, weight_decay=0.0, warm_up=50, average=0.995)
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
    device = torch.device(device)
    model = new_vae(plan.seed).to(device)

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

    fit(step_loss, dict(model.named_parameters()), plan, on_step=on_step, checkpoint=checkpoint)
    return model


def stored_vae(model: AutoencoderKL) -> dict[str, Tensor]:
    """The tensors of the file: latent-diffusion's names, 16 bits."""
    return {name: tensor.detach().half() for name, tensor in model.state_dict().items()}


def read_vae(path: Path, config: VAEConfig = CONFIG) -> AutoencoderKL:
    """The model as stored, in float32."""
    model = new_vae(0, config)
    with open_tensors(path) as file:
        model.load_state_dict(file.read(file.shapes, dtype=torch.float32))
    return model.eval()
