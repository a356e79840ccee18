"""Pictures of a model while it learns: the same prompt and noise, by Euler's method, for any model a trainee wraps."""

from collections.abc import Callable

import torch
from torch import Tensor

from .lora.trainee import Levels, Prompt, Trainee


def way_down(levels: Levels, steps: int) -> Tensor:
    """Levels from the noisiest down to 0 in `steps` even steps of a model's own way. -> [steps + 1] float32, the CPU

    Raises:
        ValueError: no step.
    """
    if steps < 1:
        raise ValueError(f"at least one step was expected, not {steps}: choose more")
    shares = torch.linspace(1, 0, steps + 1, dtype=torch.float32)[:-1]
    if levels.whole:
        found = levels.table[(shares * (len(levels.table) - 1)).round().long()]
    else:
        found = levels.of(shares).float()
    return torch.cat([found, torch.zeros(1)])


@torch.no_grad()
def sampled(
    trainee: Trainee, prompt: Prompt, empty: Prompt, noise: Tensor, *, steps: int = 20, guidance: float = 4.0
) -> Tensor:
    """Draw a picture of a prompt, away from `empty` by `guidance`; at 1 the prompt alone.

    -> raw latent, [1, C, ...] as `noise`, on its device
    """
    levels = way_down(trainee.levels, steps).to(noise.device)
    latent = trainee.noised(levels[:1], noise, torch.zeros_like(noise))
    for place in range(steps):
        now, after = levels[place : place + 1], levels[place + 1 : place + 2]
        picture = trainee.denoised(latent, now, [prompt])
        if guidance != 1:
            plain = trainee.denoised(latent, now, [empty])
            picture = plain + guidance * (picture - plain)
        latent = latent + (after / now - 1) * (latent - picture)
    return trainee.to_raw(latent)


def decoded(decode: Callable[[Tensor], Tensor], latent: Tensor) -> Tensor:
    """Decode a latent as hosts run their nodes, under inference mode: their VAEs write into what they made there."""
    with torch.inference_mode():
        picture = decode(latent)
    return picture.clone()
