"""What a diffusion model makes of prompts, judged by the independent reading of the pixels."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ..clip_core.networks.clip import CLIP
from ..clip_core.tokenizer import Tokenizer
from ..diffusion.flow import schedule
from ..diffusion.network import Denoiser, initialise_
from ..diffusion.sampling import euler, guided
from ..vae_core.networks.kl import AutoencoderKL
from .recipes.diffusion import SIDE_PX, text_states
from .scenes.drawing import draw
from .scenes.reading import read_picture
from .scenes.scene import COLOURS, HELD_OUT, SHAPES, TRAINED, pair_label, random_scenes
from .scores import device_of

STEPS, GUIDANCE = 20, 3.0
_AT_ONCE = 50
Pair = tuple[int, int]  # indices into SHAPES and COLOURS


def generate(
    model: Denoiser, clip: CLIP, vae: AutoencoderKL, texts: Sequence[str], seed: int, guidance: float = GUIDANCE
) -> Tensor:
    """Pictures of prompts, by 20 steps of Euler, on the CLIP's device; noise is drawn on the CPU.

    -> [N, 3, 64, 64] in 0..1 on the CPU
    """
    device, tokenizer, generator = device_of(clip), Tokenizer(), Generator().manual_seed(seed)
    cells, pictures = SIDE_PX // vae.config.factor, []
    levels = schedule(STEPS, model.shift).tolist()
    with torch.inference_mode():
        for first in range(0, len(texts), _AT_ONCE):
            some = texts[first : first + _AT_ONCE]
            noise = torch.randn(len(some), vae.config.latent, cells, cells, generator=generator).to(device)
            text, empty = text_states(clip, tokenizer, some), text_states(clip, tokenizer, [""] * len(some))
            latent = euler(guided(model, text, empty, guidance), noise, levels)
            pixels = vae.decode(model.latents.to_raw(latent))
            pictures.append((pixels.float() / 2 + 0.5).clamp(0, 1).cpu())
    return torch.cat(pictures)


def share_right(pictures: Tensor, pairs: Sequence[Pair]) -> float:
    """Share of the pictures in which the shape and the colour asked for are read, 0..1."""
    right = 0
    for picture, pair in zip(pictures, pairs, strict=True):
        read = read_picture(picture)
        right += read is not None and (read.shape, read.colour) == pair
    return right / len(pairs)


def generation_scores(model: Denoiser, clip: CLIP, vae: AutoencoderKL, seed: int, count: int = 200) -> dict[str, float]:
    """Shares of `count` prompts whose picture shows what they ask for: trained and never trained pairs; beside them no
    guidance, an untrained model, and drawn pictures. 0..1
    """
    pairs = {name: _cycled(some, count) for name, some in (("trained", TRAINED), ("never trained", HELD_OUT))}
    texts = {name: [f"a photo of a {pair_label(pair)}" for pair in some] for name, some in pairs.items()}

    def score(made: Denoiser, name: str, guidance: float = GUIDANCE) -> float:
        return share_right(generate(made, clip, vae, texts[name], seed, guidance), pairs[name])

    device = device_of(clip)
    untrained = initialise_(Denoiser(model.config), 0).to(device)
    scenes = random_scenes(count, Generator().manual_seed(seed), TRAINED)
    drawn = [(int(shape), int(colour)) for shape, colour in zip(scenes.shape, scenes.colour)]
    return {
        "trained pairs": score(model, "trained"),
        "never trained pairs": score(model, "never trained"),
        "trained pairs, guidance off": score(model, "trained", guidance=1.0),
        "trained pairs, untrained model": score(untrained, "trained"),
        "drawn pictures": share_right(draw(scenes, SIDE_PX, Generator().manual_seed(seed)), drawn),
        "chance": 1 / (len(SHAPES) * len(COLOURS)),
    }


def _cycled(pairs: Sequence[Pair], count: int) -> list[Pair]:
    return [pairs[number % len(pairs)] for number in range(count)]
