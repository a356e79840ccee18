"""What training asks of a VAE, whatever program holds it: its weights, how its network is built, and where."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...vae_core.posterior import mean_of
from ...vae_core.tiling import work
from ...vae_core.tiling.network import VAENetwork, has_half
from ...vae_core.tiling.room import Room, Tiling
from ..loop import OnStep, TrainingError

WITHOUT = {  # what to say where a half is missing
    "encode": "this VAE has no encoder, which makes the latents that its decoder learns from: load the full VAE",
    "decode": "this VAE has no decoder, which is what learns: load the full VAE",
}


@dataclass(frozen=True, eq=False)
class VAETrainee:
    """A VAE that can be trained.

    build: (operations, device, dtype) -> its network, without weights. state: its weights by our networks' names, as
    they are stored, on any device. room: the devices, and what is free there now. dtype: what its host computes it in,
    as loaders call it.
    """

    build: Callable[..., VAENetwork]
    state: Mapping[str, Tensor]
    room: Callable[[], Room]
    dtype: str = "auto"

    def network(self, state: Mapping[str, Tensor] | None = None) -> VAENetwork:
        """A network of its own in float32, on the device, with these weights or its own; ready to be used.

        Raises:
            TrainingError: a VAE for videos, or without an encoder or a decoder.
        """
        made = self.build(device=self.room().device, dtype=torch.float32)
        if made.has_frames:
            raise TrainingError(
                f"a VAE for pictures was expected, and this {made.title} is for videos, which is not trained here: "
                "load one of SD, SDXL, SD3, Flux, or a TAESD"
            )
        for way, why in WITHOUT.items():
            if not has_half(made, way):
                raise TrainingError(why)
        own = {name: tensor.detach().clone() for name, tensor in (state or self.state).items()}
        made.load_state_dict(own)
        return made.requires_grad_(False).eval()

    def latent(self, network: VAENetwork, image: Tensor, on_step: OnStep = lambda *_: None) -> Tensor:
        """The mean latent of a whole picture in whole cells, on the CPU. [1, H, W, C] in 0..1 -> [1, C, h, w]"""
        pixels = image.movedim(-1, 1) * 2 - 1
        room = self.room()
        done = work.encode(network, pixels, Tiling(), room, on_step, lambda: network)
        return mean_of(done.result).to("cpu", torch.float32, copy=True)

    def picture(self, network: VAENetwork, latent: Tensor, on_step: OnStep = lambda *_: None) -> Tensor:
        """A whole picture of a latent, as hosts show it, on the CPU. [1, C, h, w] -> [1, H, W, C] in 0..1"""
        done = work.decode(network, latent, Tiling(), self.room(), on_step, lambda: network)
        pixels = mean_of(done.result).to("cpu", torch.float32, copy=True)
        return (pixels / 2 + 0.5).clamp(0, 1).movedim(1, -1)
