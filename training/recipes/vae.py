"""The bundled autoencoder: tiny, four channels, four pixels for each cell, trained on drawn pictures only."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from ...files.tensors import open_tensors
from ...vae_core.autoencoder import AutoencoderKL
from ...vae_core.config import NORM_GROUPS, VAEConfig
from ..loop import Checkpoint, OnStep, Plan, fit, trainable
from ..losses import vae_loss
from ..textures import mixed_pictures

CONFIG = VAEConfig(channels=32, multipliers=(2, 2, 3), blocks=1, latent=4, quant=True)
PLAN = Plan(steps=3000, seed=2, lr=1e-3, weight_decay=0.01, warm_up=100, average=0.99)
BATCHES = ((4, 64), (4, 64), (4, 64), (1, 128))  # pictures and their side in px, one of them each step, equally likely
KL_WEIGHT = 5e-4
EDGE_WEIGHT = 0.5
_START_LOGVAR = -7.0  # deviation 0.03
_SPREAD = 2.0
_STREAM_WRITERS = ("nin_shortcut", "downsample.conv", "upsample.conv", "conv_in")


def new_vae(seed: int, config: VAEConfig = CONFIG) -> AutoencoderKL:
    """An untrained autoencoder: torch's own initialisation, and two starts that save half of the training.

    The posterior's deviation starts small: at 1 its noise drowns the latent. And every convolution that writes the
    stream between the blocks starts with biases that differ within each group of the norms (`_spread_`): norms of so
    few channels would otherwise take each picture's brightness and colours away.
    The caller's random state is left alone.
    """
    with trainable(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoencoderKL(config)
        with torch.no_grad():
            model.quant_conv.weight[config.latent:] *= 0.1
            model.quant_conv.bias[config.latent:] = _START_LOGVAR
            for name, module in model.named_modules():
                if name.endswith(_STREAM_WRITERS):
                    _spread_(module)
    return model


def _spread_(convolution: nn.Conv2d) -> None:
    """Biases from -_SPREAD to _SPREAD across the channels of each group: then the group's deviation is about constant,
    and its norm about linear in the values, which are smaller.
    """
    group = convolution.out_channels // NORM_GROUPS
    if group > 1:
        convolution.bias += torch.linspace(-_SPREAD, _SPREAD, group).repeat(NORM_GROUPS)


def train_vae(
    plan: Plan = PLAN,
    *,
    batches: tuple[tuple[int, int], ...] = BATCHES,
    precision: torch.dtype = torch.bfloat16,
    pictures: Callable[[int, int, Generator], Tensor] = mixed_pictures,
    on_step: OnStep | None = None,
    checkpoint: Checkpoint | None = None,
) -> AutoencoderKL:
    """Train the bundled autoencoder; `precision` is that of the convolutions, the weights themselves are float32.

    Args:
        pictures: (count, size in px, generator) -> [count, 3, S, S] in 0..1.
    """
    model = new_vae(plan.seed)

    def step_loss(step: int, generator: Generator) -> Tensor:
        count, side_px = batches[int(torch.randint(len(batches), (), generator=generator))]
        pixels = pictures(count, side_px, generator) * 2 - 1
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            posterior = model.encode(pixels)
            latent = posterior.sample(generator)
            reconstruction = model.decode(latent)
        return vae_loss(pixels, reconstruction, posterior.kl(), latent[0].numel(),
                        kl_weight=KL_WEIGHT, edge_weight=EDGE_WEIGHT).total

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
