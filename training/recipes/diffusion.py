"""The bundled diffusion model: flow matching on the bundled VAE's latents, told by the bundled CLIP's text states.

Pictures are drawn and encoded once, captions are written anew at every step from the same facts. A tenth of them are
left empty, for guidance. The text states are those that ComfyUI gives a diffusion model: all 77 places of the last
layer, with its norm.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from ...clip_core.networks.clip import CLIP
from ...clip_core.tokenizer import Tokenizer
from ...diffusion.checkpoint import config_of
from ...diffusion.config import DiffusionConfig, LatentScale
from ...diffusion.flow import draw_levels, flow_loss, mixed
from ...diffusion.network import Denoiser, initialise_
from ...files.tensors import open_tensors
from ...vae_core.networks.kl import AutoencoderKL
from ..device import products_in, sent
from ..loop import Checkpoint, OnStep, TrainingPlan, fit, trainable
from ..scenes.captions import write_captions
from ..scenes.drawing import draw
from ..scenes.scene import Scenes, random_scenes
from ..scores import device_of

CONFIG = DiffusionConfig()
PLAN = TrainingPlan(steps=6000, seed=4, lr=1e-3, weight_decay=0.01, warm_up=200, average=0.999)
BATCH = 64
SIDE_PX = 64
PICTURES = 24_000  # drawn and encoded once: thirty times faster than at every step
SHIFT = 2.0  # of the noise levels, in training and in sampling
EMPTY = 0.1  # share of the captions that are left out
_AT_ONCE = 100  # pictures drawn and encoded together


@dataclass(frozen=True)
class Encoded:
    """Drawn pictures as latents in model space, float16, with their facts; on the CPU."""

    latents: Tensor  # [N, C, h, w]
    scenes: Scenes
    scale: LatentScale


def encode_pictures(
    vae: AutoencoderKL, count: int, seed: int, precision: torch.dtype, on_step: OnStep | None = None
) -> Encoded:
    """Draw scenes and encode them on the autoencoder's device; the scale is measured on the first thousand."""
    generator = Generator().manual_seed(seed * 7_919 + 17)
    device = next(vae.parameters()).device
    scenes = random_scenes(count, generator)
    raw = []
    with torch.no_grad(), products_in(precision, device):
        for first in range(0, count, _AT_ONCE):
            some = scenes.take(torch.arange(first, min(first + _AT_ONCE, count)))
            pixels = sent(draw(some, SIDE_PX, generator) * 2 - 1, device)
            raw.append(vae.posterior(pixels).mode.float().cpu())
            if on_step:
                on_step(min(first + _AT_ONCE, count), count)
    latents = torch.cat(raw)
    scale = LatentScale.of(latents[:1000])
    return Encoded(scale.to_model(latents).half(), scenes, scale)


def text_states(clip: CLIP, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """The hidden states of prompts, as ComfyUI's SD1 conditioning has them. -> [N, 77, width] on the CLIP's device"""
    ids = sent(tokenizer.batch(texts)[0], device_of(clip))
    return clip.encode_text(ids).hidden


def train_diffusion(
    clip: CLIP,
    vae: AutoencoderKL,
    plan: TrainingPlan = PLAN,
    *,
    config: DiffusionConfig = CONFIG,
    batch: int = BATCH,
    pictures: int = PICTURES,
    precision: torch.dtype = torch.bfloat16,
    on_step: OnStep | None = None,
    checkpoint: Checkpoint | None = None,
) -> Denoiser:
    """Train the bundled diffusion model on the device of the CLIP and the VAE, which are not changed."""
    device, tokenizer = device_of(clip), Tokenizer()
    data = encode_pictures(vae, pictures, plan.seed, precision)
    with trainable():
        model = initialise_(Denoiser(config), plan.seed).to(device)
        model.get_buffer("latent_scale").copy_(data.scale.scale)
        model.get_buffer("latent_shift").copy_(data.scale.shift)
        model.get_buffer("noise_shift").fill_(SHIFT)
        step_loss = _step_loss(model, clip, tokenizer, data, batch, precision)
        fit(step_loss, dict(model.named_parameters()), plan, on_step=on_step, checkpoint=checkpoint)
    return model


def _step_loss(
    model: Denoiser, clip: CLIP, tokenizer: Tokenizer, data: Encoded, batch: int, precision: torch.dtype
) -> Callable[[int, Generator], Tensor]:
    device = device_of(clip)

    def step_loss(step: int, generator: Generator) -> Tensor:
        rows = torch.randint(len(data.latents), (batch,), generator=generator)
        captions = write_captions(data.scenes.take(rows), generator).texts
        empty = (torch.rand(batch, generator=generator) < EMPTY).tolist()
        latent, level = data.latents[rows].float(), draw_levels(batch, generator, SHIFT)
        noise = torch.randn(latent.shape, generator=generator)
        latent, level, noise = (sent(part, device) for part in (latent, level, noise))
        said = ["" if left_out else caption for caption, left_out in zip(captions, empty)]
        with torch.no_grad():
            text = text_states(clip, tokenizer, said)
        with products_in(precision, device):
            velocity = model(mixed(latent, noise, level), level, text)
        return flow_loss(velocity, latent, noise)

    return step_loss


def stored_diffusion(model: Denoiser) -> dict[str, Tensor]:
    """The tensors of the file: 16 bits, but for the few numbers that tell how the model is used."""
    facts = dict(model.named_buffers())
    return {name: tensor if name in facts else tensor.detach().half() for name, tensor in model.state_dict().items()}


def read_diffusion(path: Path) -> Denoiser:
    """The model as stored, in float32."""
    with open_tensors(path) as file:
        model = Denoiser(config_of(file.shapes))
        model.load_state_dict(file.read(file.shapes, dtype=torch.float32))
    return model.requires_grad_(False).eval()
