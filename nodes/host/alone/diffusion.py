"""Our small diffusion model without ComfyUI, under the names of tensors that it has there; and it as a trainee."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from ....diffusion.config import DiffusionConfig
from ....diffusion.flow import shifted
from ....diffusion.network import Denoiser
from ....training.lora.trainee import LearningText, Levels, make_ordinary_, own_copy
from ..shared.towers import as_dtype
from .clip import StandaloneClip
from .place import device


class Named(nn.Module):
    """The network under the name that LoRA files know a diffusion model by."""

    def __init__(self, network: Denoiser):
        super().__init__()
        self.diffusion_model = network


@dataclass(frozen=True)
class StandaloneModel:
    """A diffusion model. `identity` stands for the weights: another object for other weights."""

    named: Named
    identity: object = field(default_factory=object)

    @property
    def network(self) -> Denoiser:
        return self.named.diffusion_model


def make_model(config: DiffusionConfig, state: Mapping[str, Tensor], dtype: str) -> StandaloneModel:
    network = Denoiser(config, dtype=as_dtype(dtype) or torch.float32)
    network.load_state_dict(state)
    return StandaloneModel(Named(network.requires_grad_(False).eval().to(device())))


_LEVELS = 1000


@contextmanager
def trainee(model: StandaloneModel, clip: StandaloneClip | None = None) -> Iterator[StandaloneTrainee]:
    if not isinstance(model, StandaloneModel):
        raise ValueError(
            f"a MODEL of Load Diffusion Model (CVL) was expected, and this is {type(model).__name__}: connect one, or "
            "train in ComfyUI"
        )
    with torch.inference_mode(False):
        make_ordinary_(model.named)
        text = None
        if clip is not None:
            make_ordinary_(clip.towers)
            text = LearningText(clip.towers, tuple(tower.port.name for tower in clip.towers.towers()))
        yield StandaloneTrainee(model, text)


class StandaloneTrainee:
    """See `training.lora.trainee.Trainee`; a prompt is its text states."""

    notes: Sequence[str] = ()
    relief = None

    def __init__(self, model: StandaloneModel, text: LearningText | None = None):
        self.network, self.text = model.network, text
        self.device = self.network.conv_in.weight.device
        shift = self.network.shift
        table = torch.arange(1, _LEVELS + 1, dtype=torch.float32) / _LEVELS
        self.levels = Levels(shifted(table, shift), False, lambda share: shifted(share, shift))

    def to_model(self, latent: Tensor) -> Tensor:
        return self.network.latents.to_model(latent.detach().clone().to(device=self.device, dtype=torch.float32))

    def to_raw(self, latent: Tensor) -> Tensor:
        return self.network.latents.to_raw(latent.float())

    def noised(self, level: Tensor, noise: Tensor, latent: Tensor) -> Tensor:
        level = level.view(-1, *[1] * (latent.ndim - 1))
        return level * noise + (1 - level) * latent

    def affine(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(level), -level

    def prepare(self, conditioning: object, latent: Tensor) -> Tensor:
        entries = cast(list, conditioning)
        if len(entries) != 1:
            raise ValueError(f"one prompt for each picture was expected, and this one has {len(entries)} parts")
        return cast(Tensor, own_copy(entries[0][0])).to(device=self.device, dtype=self.network.dtype)

    def denoised(self, noisy: Tensor, level: Tensor, prompts: Sequence[Tensor]) -> Tensor:
        if len({prompt.shape for prompt in prompts}) == 1:
            return self._apply(noisy, level, torch.cat(list(prompts)))
        parts = zip(noisy.split(1), level.split(1), prompts)
        return torch.cat([self._apply(one, own, prompt) for one, own, prompt in parts])

    def _apply(self, noisy: Tensor, level: Tensor, text: Tensor) -> Tensor:
        velocity = self.network(noisy.to(self.network.dtype), level, text).float()
        return noisy.float() - level.view(-1, 1, 1, 1) * velocity
