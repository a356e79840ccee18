"""The pictures that judge a VAE's training, whole: their latents, and what a decoder makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...vae_core.inpaint import cut_to, padded_to_cells
from ...vae_core.tiling.network import VAENetwork
from ..loop import TrainingError
from ..record.digest import digest_of
from .measures import TILE_PX, Quality, errors_in_short, quality_of
from .pictures import Picture
from .trainee import VAETrainee

Tick = Callable[[], None]  # called between two pictures; may raise to break off


@dataclass(frozen=True)
class Judged:
    """What whole pictures say of a VAE. qualities: by the names of the pictures. latents: a name for all of them by
    their bits. means, deviations: of each channel of the latents.
    """

    qualities: Mapping[str, Quality]
    latents: str
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def worst(self) -> Worst:
        """The tile with the largest error."""
        name, found = min(self.qualities.items(), key=lambda item: item[1].worst_tile.psnr_db)
        return Worst(name, found.worst_tile.top_px, found.worst_tile.left_px)


@dataclass(frozen=True)
class Worst:
    """Where to look: a tile of a picture."""

    name: str
    top_px: int
    left_px: int

    def cut(self, size: tuple[int, int]) -> tuple[slice, slice, slice]:
        """Twice the tile's side round it, inside of a picture of that height and width, as an index of [1, H, W, C]."""
        side = min(2 * TILE_PX, *size)
        begins = (
            min(max(0, begin + (TILE_PX - side) // 2), length - side)
            for begin, length in zip((self.top_px, self.left_px), size)
        )
        rows, columns = (slice(begin, begin + side) for begin in begins)
        return slice(None), rows, columns


@dataclass(frozen=True, eq=False)
class Look:
    """The mean errors of whole pictures, and of one of them a part, beside what the VAE makes of it now."""

    errors: tuple[float, float]
    part: Tensor
    result: Tensor


class Judges:
    """Whole pictures and their latents by the VAE as it was."""

    def __init__(self, trainee: VAETrainee, network: VAENetwork, pictures: Sequence[Picture], tick: Tick):
        self.trainee, self.pictures = trainee, pictures
        self.latents = self._encoded(network, tick)

    def _encoded(self, network: VAENetwork, tick: Tick) -> list[Tensor]:
        found = []
        for one in self.pictures:
            padded = padded_to_cells(one.whole(network.config.image_channels), network.config.factor)
            found.append(self.trainee.latent(network, padded))
            if not bool(found[-1].isfinite().all()):
                raise TrainingError(
                    f"the latent of {one.name} holds numbers that are none, so this VAE is broken: load another file"
                )
            tick()
        return found

    def deviations(self) -> Tensor:
        """Of each channel of the latents of the VAE as it was. -> [C], above 0"""
        return _cells(self.latents).std(1).clamp(min=1e-3)

    def before(self, network: VAENetwork, tick: Tick) -> Judged:
        """All measures of the VAE as it was."""
        return self._judged(network, self.latents, tick)

    def after(self, network: VAENetwork, tick: Tick) -> tuple[Judged, float]:
        """All measures by another VAE's own encoder and decoder, and how far its latents are from those that were: the
        root of the mean square, in deviations.
        """
        latents = self._encoded(network, tick)
        moved = (_cells(latents) - _cells(self.latents)) / self.deviations()[:, None]
        return self._judged(network, latents, tick), float(moved.square().mean().sqrt())

    def look(self, network: VAENetwork, worst: Worst, tick: Tick) -> Look:
        """What a course shows, of the latents as they were."""
        each, shown = [], None
        for one, latent in zip(self.pictures, self.latents):
            picture, result = self._pair(network, one, latent)
            each.append(errors_in_short(picture, result))
            if one.name == worst.name:
                cut = worst.cut(one.size)
                shown = picture[cut].clone(), result[cut].clone()
            tick()
        if shown is None:
            raise ValueError(f"{worst.name} is none of the pictures that judge: name one of those")
        first, second = zip(*each)
        return Look((sum(first) / len(first), sum(second) / len(second)), *shown)

    def _judged(self, network: VAENetwork, latents: Sequence[Tensor], tick: Tick) -> Judged:
        qualities = dict[str, Quality]()
        for one, latent in zip(self.pictures, latents):
            qualities[one.name] = quality_of(*self._pair(network, one, latent))
            tick()
        cells = _cells(latents)
        means, deviations = (tuple(values.tolist()) for values in (cells.mean(1), cells.std(1)))
        return Judged(qualities, digest_of(latents), means, deviations)

    def _pair(self, network: VAENetwork, one: Picture, latent: Tensor) -> tuple[Tensor, Tensor]:
        """A whole picture and its reconstruction, of the same size."""
        return one.whole(network.config.image_channels), cut_to(self.trainee.picture(network, latent), one.size)


def _cells(latents: Sequence[Tensor]) -> Tensor:
    """The values of each channel in all pictures. [1, C, h, w] each -> [C, cells]"""
    return torch.cat([one.flatten(2)[0] for one in latents], 1)
