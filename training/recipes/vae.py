"""The bundled autoencoder: tiny, four channels, four pixels for each cell, trained on drawn pictures only."""

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
PLAN = Plan(steps=2400, seed=2, lr=1.5e-3, weight_decay=0.01, warm_up=100, average=0.99)
BATCH = 4
SIDE_PX = 64
ZOOMS = (1.0, 2.0, 4.0, 4.0)  # one of them each step: parts of pictures of 64, 128 and 256 px
KL_WEIGHT = 5e-4
EDGE_WEIGHT = 0.5
_START_LOGVAR = -7.0  # deviation 0.03
_SPREAD = 1.0
_STREAM_WRITERS = ("nin_shortcut", "downsample.conv", "upsample.conv", "conv_in")
_BRANCH_ENDS = ("conv2", "attn_1.proj_out")


def new_vae(seed: int, config: VAEConfig = CONFIG) -> AutoencoderKL:
    """An untrained autoencoder: torch's own initialisation but for three things, which save half of the training.

    Residual branches start at zero. The posterior's deviation starts small: at 1 its noise drowns the latent. And every convolution that writes the
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
                if name.endswith(_BRANCH_ENDS):
                    module.weight.zero_()
                    module.bias.zero_()
                if name.endswith(_STREAM_WRITERS):
                    module.weight *= 3**0.5  # torch's own would shrink the stream at each of them
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
    batch: int = BATCH,
    precision: torch.dtype = torch.bfloat16,
    on_step: OnStep | None = None,
    checkpoint: Checkpoint | None = None,
) -> AutoencoderKL:
    """Train the bundled autoencoder; `precision` is that of the convolutions, the weights themselves are float32."""
    model = new_vae(plan.seed)

    def step_loss(step: int, generator: Generator) -> Tensor:
        zoom = ZOOMS[int(torch.randint(len(ZOOMS), (), generator=generator))]
        pixels = mixed_pictures(batch, SIDE_PX, generator, zoom) * 2 - 1
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
