"""The course of a VAE's training: what each step makes of parts of pictures.

What a step draws (parts, mirroring, samples of latents, windows for a CLIP) depends on its number and the seed alone,
so that a training that was interrupted goes on to the same bits.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ...lora.weights.inject import CHILD, Injection, collect, inject
from ...vae_core.posterior import Encoding, Posterior, mean_of
from ...vae_core.tiling.network import VAENetwork
from ..device import products_in, sent
from ..loop import TrainingError
from .losses import errors_of, weighted
from .parts import is_decoder, last_weight, learning, only_learning
from .perceptual import Tower, balanced, perceptual_error
from .pictures import Crops, Picture, draw_crops
from .plan import AUTO, BF16, VAEPlan


@dataclass(frozen=True, eq=False)
class Pupil:
    """The network that learns, and its numbers that do, by name. injection: of a low-rank adapter, where there is
    one.
    """

    network: VAENetwork
    parameters: Mapping[str, torch.nn.Parameter]
    injection: Injection | None

    def state(self) -> dict[str, Tensor]:
        """The VAE's weights as they are now, an adapter added to them. -> float32, as copies"""
        found = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        adapters = collect(self.network)
        for name in adapters:
            weight = found[f"{name}.weight"]
            found[f"{name}.weight"] = weight + adapters[name].delta(weight).to(weight)
        own = tuple(f"{name}.{CHILD}." for name in adapters)
        return {name: tensor for name, tensor in found.items() if not name.startswith(own)}


def make_pupil(network: VAENetwork, plan: VAEPlan) -> Pupil:
    """Choose what learns; in a low-rank training, the convolutions of what was chosen get an adapter."""
    chosen = learning(network, plan.part)
    if not plan.rank:
        only_learning(network, chosen)
        return Pupil(network, chosen, None)
    stems = {name.rpartition(".")[0] for name in chosen}
    layers = [name for name, part in network.named_modules() if name in stems and isinstance(part, torch.nn.Conv2d)]
    generator = Generator().manual_seed(plan.seed)
    injection = inject(network, layers, plan.rank, plan.alpha or None, generator=generator)
    parameters = {name: one for name, one in network.named_parameters() if one.requires_grad}
    return Pupil(network, parameters, injection)


class Course:
    """The pictures, and what a step makes of them. errors: of the latest batch, each by itself."""

    def __init__(
        self,
        pupil: Pupil,
        reference: VAENetwork,
        pictures: Sequence[Picture],
        plan: VAEPlan,
        deviations: Tensor,
        tower: Tower | None,
    ):
        """reference: the VAE as it was, whose latents an encoder that learns is held to; deviations: of theirs."""
        self.pupil, self.reference, self.pictures, self.plan, self.tower = pupil, reference, pictures, plan, tower
        self.device = next(reference.parameters()).device
        self.crops = Crops(plan.crop_px, plan.shrink, plan.mirror)
        self.errors: dict[str, Tensor] = {}
        self._deviations = deviations.to(self.device).view(1, -1, 1, 1)
        self._last = last_weight(pupil.network)
        if plan.weights.perceptual:
            self._last.requires_grad_(True)  # a gradient is asked for there, also beside an adapter
        if plan.weights.perceptual and tower is None:
            raise TrainingError(
                "the perceptual loss needs a CLIP that looks at the pictures, and none is connected: connect one, or "
                "set its weight to 0"
            )

    def loss(self, number: int, generator: Generator) -> Tensor:
        """The loss of the batch of this number, with gradients. -> []"""
        plan, network = self.plan, self.pupil.network
        channels = network.config.image_channels
        pixels = sent(draw_crops(self.pictures, plan.batch, self.crops, channels, generator), self.device)
        with products_in(self._precision(), self.device):
            with nullcontext() if plan.moves_latents else torch.no_grad():
                encoding = network.encoding(pixels)
            reconstruction = network.decode(self._latent(encoding, generator)).float()
        errors = errors_of(pixels, reconstruction, plan.weights)
        loss = weighted(errors, plan.weights)
        if plan.weights.perceptual and self.tower is not None:
            self._last.grad = None
            errors["perceptual"] = perceptual_error(self.tower, pixels, reconstruction, generator)
            factor = balanced(errors["perceptual"], loss, self._last)
            loss = loss + plan.weights.perceptual * factor * errors["perceptual"]
        if plan.moves_latents and plan.hold:
            errors["moved"] = self._moved(encoding, pixels)
            loss = loss + plan.hold * errors["moved"]
        self.errors = {name: error.detach() for name, error in errors.items()}
        return loss

    def _precision(self) -> torch.dtype:
        is_short = self.plan.precision == BF16 or (self.plan.precision == AUTO and self.device.type != "cpu")
        return torch.bfloat16 if is_short else torch.float32

    def _latent(self, encoding: Encoding, generator: Generator) -> Tensor:
        if self.plan.sample and isinstance(encoding, Posterior):
            return encoding.sample(generator)
        return mean_of(encoding)

    def _moved(self, encoding: Encoding, pixels: Tensor) -> Tensor:
        """How far latents are from those of the VAE as it was: mean square, in deviations, and of a distribution its
        log-variance's, too. -> []
        """
        with torch.no_grad():
            before = self.reference.encoding(pixels)
        moved = ((mean_of(encoding).float() - mean_of(before)) / self._deviations).square().mean()
        if isinstance(encoding, Posterior) and isinstance(before, Posterior):
            moved = moved + (encoding.logvar.float() - before.logvar).square().mean()
        return moved

    def rates(self) -> dict[str, float]:
        """Factors on the learning rate of what is not the decoder's."""
        rate = self.plan.encoder_rate
        return {name: rate for name in self.pupil.parameters if not is_decoder(name)}
