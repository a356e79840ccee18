"""The loss of a diffusion model in its own terms, found without knowing what it predicts.

A host's model answers with its guess of the picture. That guess is a * noisy + b * output, whatever the network puts
out (noise, velocity, flow, the picture itself), so the error of the output is the error of the guess over b. Min-SNR
(Hang et al., arXiv 2303.09556) is then one formula for all: min(SNR, gamma) times the squared error of the guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .trainee import Prompt, Trainee, signal_to_noise


@dataclass(frozen=True)
class Weighting:
    """How errors count.

    min_snr: gamma of min-SNR; 0 leaves it off, and every level's own squared error counts alike. outside_mask: what
    the error outside a mask counts, 0..1.
    """

    min_snr: float = 0.0
    outside_mask: float = 0.1

    def __post_init__(self):
        if not self.min_snr >= 0 or not 0 <= self.outside_mask <= 1:
            raise ValueError(
                f"min SNR gamma {self.min_snr:g}, weight outside the mask {self.outside_mask:g}: expected gamma >= 0 "
                "and a weight of 0..1"
            )


@dataclass(frozen=True, eq=False)
class Examples:
    """A batch: latents in the model's space, their prompts, and where given masks of what counts; on the device.

    latent [B, C, ...]; mask [B, 1, ...] in 0..1 or None.
    """

    latent: Tensor
    prompts: Sequence[Prompt]
    mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.latent)


def losses_of(
    trainee: Trainee, examples: Examples, level: Tensor, noise: Tensor, weighting: Weighting | None = None
) -> Tensor:
    """The loss of each example at its level, in the network's own target. -> [B] float32, with gradients

    level [B], noise [B, C, ...]: on the device. A mask's mean is divided out: a small mask is no small gradient.
    """
    noisy = trainee.noised(level, noise, examples.latent)
    guess = trainee.denoised(noisy, level, examples.prompts)
    return weighted(trainee, guess - examples.latent, level, examples.mask, weighting or Weighting())


def weighted(trainee: Trainee, error: Tensor, level: Tensor, mask: Tensor | None, weighting: Weighting) -> Tensor:
    """The loss that an error of guesses of pictures is, as `losses_of`. [B, C, ...] -> [B]"""
    squares = error.float().square()
    if mask is not None:
        counts = mask.float().clamp(min=weighting.outside_mask).expand_as(squares)
        squares = squares * counts / counts.flatten(1).mean(1).view(-1, *[1] * (squares.ndim - 1))
    mean = squares.flatten(1).mean(1)  # [B], of the picture
    _, b = trainee.affine(level)
    factor = 1 / b.float().square()
    if weighting.min_snr:
        factor = signal_to_noise(trainee, level).clamp(max=weighting.min_snr)
    return mean * factor


def kept_loss(
    trainee: Trainee, guess: Tensor, base_guess: Tensor, level: Tensor, weighting: Weighting | None = None
) -> Tensor:
    """The loss of a guess against the base model's own, on the same noisy latents: prior preservation without extra
    pictures. -> [B] float32
    """
    return weighted(trainee, guess - base_guess.detach(), level, None, weighting or Weighting())


def drawn_noise(latent: Tensor, generator: torch.Generator) -> Tensor:
    """Noise like a latent, drawn on the CPU: the same on every device."""
    return torch.randn(latent.shape, generator=generator, device="cpu", dtype=torch.float32).to(latent.device)
