"""Flow matching: a straight line from each picture to noise, and the loss that teaches the way along it.

Lipman et al. (arXiv 2210.02747); levels as in Stable Diffusion 3 (Esser et al., arXiv 2403.03206): logit-normal, then
shifted towards noise.
"""

import torch
from torch import Generator, Tensor


def shifted(level: Tensor, shift: float) -> Tensor:
    """Levels moved towards noise: shift * t / (1 + (shift - 1) * t); 0 and 1 stay. Any shape, 0..1"""
    return shift * level / (1 + (shift - 1) * level)


def draw_levels(count: int, generator: Generator, shift: float) -> Tensor:
    """Levels to train at: the logistic function of a normal number, shifted. -> [count] in 0..1, on the CPU"""
    return shifted(torch.sigmoid(torch.randn(count, generator=generator)), shift)


def mixed(latent: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """The point at `level` of the line from latent (0) to noise (1). [B, C, h, w] twice, [B] -> [B, C, h, w]"""
    level = level.to(latent.dtype)[:, None, None, None]
    return (1 - level) * latent + level * noise


def flow_loss(velocity: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
    """Mean square of the difference between a velocity and the line's own, noise - latent, in float32.

    [B, C, h, w] each -> []
    """
    return (velocity.float() - (noise - latent).float()).square().mean()


def schedule(steps: int, shift: float) -> Tensor:
    """Levels from 1 down to 0 in `steps` even steps, shifted. -> [steps + 1] float64"""
    return shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift)
