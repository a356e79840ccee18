"""What training asks of a diffusion model, whatever program holds it; tensors are on its device unless said otherwise.

No prediction type is named here: what a network predicts is found by asking how its output becomes a picture.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..state import Relief

Prompt = object  # a conditioning of one picture, prepared by the trainee; opaque here
_NUMBERS_SEEN = 4096  # of each weight, for a digest


@dataclass(frozen=True, eq=False)
class Levels:
    """The noise levels that a model knows.

    table: its levels, rising, on the CPU, float32. whole: it was trained at the table's levels alone (Stable Diffusion
    1 to XL), so that others are not drawn. of: a share of the way from picture (0) to noise (1) -> level, the model's
    shift already in it; [B] -> [B].
    """

    table: Tensor
    whole: bool
    of: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class LearningText:
    """A text encoder that learns beside the model. network: all encoders of a CLIP. encoders: the names of those in it
    that learn; others: the names of those that cannot.
    """

    network: nn.Module
    encoders: tuple[str, ...]
    others: tuple[str, ...] = ()


class Trainee(Protocol):
    """A diffusion model that can be trained. text: the text encoder that learns with it, if one does; prompts come from
    it, with gradients, wherever gradients are on.
    """

    network: nn.Module
    text: LearningText | None
    device: torch.device
    levels: Levels
    notes: Sequence[str]  # what whoever trains it should know
    relief: Relief | None  # who can help a step that this model cannot make

    def to_model(self, latent: Tensor) -> Tensor:
        """Raw latent -> the space the model works in, float32. [1, C, ...]"""

    def to_raw(self, latent: Tensor) -> Tensor:
        """The opposite of `to_model`, on the device. [1, C, ...]"""

    def noised(self, level: Tensor, noise: Tensor, latent: Tensor) -> Tensor:
        """The noisy latent at a level; its arguments stay as they are. [B], [B, C, ...] twice -> [B, C, ...]"""

    def affine(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """a and b of: picture = a * noisy + b * (what the network puts out). [B] -> [B], [B]"""

    def prepare(self, conditioning: object, latent: Tensor) -> Prompt:
        """A conditioning for a latent of this size, [1, C, ...] in the model's space; gradients go through."""

    def denoised(self, noisy: Tensor, level: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """The model's guess of the picture, float32, with gradients. [B, C, ...], [B] -> [B, C, ...]"""


def networks_of(trainee: Trainee) -> list[nn.Module]:
    """All that learns: the diffusion network, and the text encoder where it does."""
    return [trainee.network, *([trainee.text.network] if trainee.text else [])]


def signal_to_noise(trainee: Trainee, level: Tensor) -> Tensor:
    """The squared ratio of what a level keeps of the picture to the noise in it; infinite without noise. [B] -> [B]"""
    one = torch.ones(len(level), 1, 1, 1, device=level.device, dtype=torch.float32)
    kept = trainee.noised(level, torch.zeros_like(one), one.clone())
    noise = trainee.noised(level, one.clone(), torch.zeros_like(one))
    return (kept / noise).square().flatten()


def own_copy(value: object) -> object:
    """A tensor as one of its own, which may take part in training; anything else, and what gradients go through, is
    itself.
    """
    return value.detach().clone() if isinstance(value, Tensor) and not value.requires_grad else value


def digest_of(network: nn.Module) -> str:
    """A sum over a network's weights, of large ones over some of their numbers; of packed ones over their names."""
    digest = hashlib.sha256()
    for name, weight in network.state_dict().items():
        digest.update(f"{name}\0{weight.dtype}\0{list(weight.shape)}\0".encode())
        if type(weight) in (Tensor, nn.Parameter) and not weight.is_meta:
            flat = weight.detach().reshape(-1)
            some = flat[:: max(1, flat.numel() // _NUMBERS_SEEN)].cpu().contiguous()
            digest.update(some.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def make_ordinary_(network: nn.Module) -> None:
    """Replace weights that were made under inference mode, which no gradient can go through, by equal ones."""
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None and weight.is_inference():
                module._parameters[name] = nn.Parameter(weight.detach().clone(), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_inference():
                module._buffers[name] = buffer.detach().clone()
