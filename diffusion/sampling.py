"""From noise to a latent: Euler's and Heun's way along the flow, with classifier-free guidance.

Heun's as in Karras et al. (arXiv 2206.00364), algorithm 1 without noise; guidance as in Ho & Salimans (arXiv
2207.12598).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .config import DiffusionError
from .network import Denoiser

Velocity = Callable[[Tensor, float], Tensor]  # noisy latent, level -> velocity
OnStep = Callable[[int, int], None]


def guided(model: Denoiser, text: Tensor, empty: Tensor, guidance: float) -> Velocity:
    """The velocity with guidance: empty + guidance * (text - empty), both in one pass of the network.

    text, empty: [B or 1, T, width], of the prompt and of the negative one; their lengths may differ. guidance 1 asks
    the prompt alone.
    """

    def velocity(noisy: Tensor, level: float) -> Tensor:
        levels = torch.full((len(noisy),), level, device=noisy.device, dtype=torch.float32)
        prompt, negative = (rows.expand(len(noisy), -1, -1) for rows in (text, empty))
        if guidance == 1:
            return model(noisy, levels, prompt)
        if prompt.shape == negative.shape:
            both = model(torch.cat([noisy, noisy]), torch.cat([levels, levels]), torch.cat([prompt, negative]))
            with_text, without = both.chunk(2)
        else:
            with_text, without = model(noisy, levels, prompt), model(noisy, levels, negative)
        return without + guidance * (with_text - without)

    return velocity


def euler(velocity: Velocity, noisy: Tensor, levels: Sequence[float], on_step: OnStep | None = None) -> Tensor:
    """Follow the flow in straight steps through `levels`, which fall. [B, C, h, w] -> [B, C, h, w]"""
    for number, (here, there) in enumerate(_steps(levels)):
        noisy = noisy + (there - here) * velocity(noisy, here)
        if on_step:
            on_step(number + 1, len(levels) - 1)
    return noisy


def heun(velocity: Velocity, noisy: Tensor, levels: Sequence[float], on_step: OnStep | None = None) -> Tensor:
    """As `euler`, each step but the last with the mean of the velocities at its two ends. [B, C, h, w]"""
    for number, (here, there) in enumerate(_steps(levels)):
        first = velocity(noisy, here)
        end = noisy + (there - here) * first
        if there > 0:
            end = noisy + (there - here) * (first + velocity(end, there)) / 2
        noisy = end
        if on_step:
            on_step(number + 1, len(levels) - 1)
    return noisy


SAMPLERS = {"euler": euler, "heun": heun}


def _steps(levels: Sequence[float]) -> list[tuple[float, float]]:
    steps = list(zip(levels, levels[1:]))
    if not steps or any(there >= here for here, there in steps) or not 0 <= levels[-1] < levels[0] <= 1:
        raise DiffusionError(
            f"expected levels that fall within 1..0, but got {list(levels)[:8]}: choose another schedule"
        )
    return steps
