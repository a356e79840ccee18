"""How far a reconstruction is from its picture: five errors, each weighted and told by itself."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..losses import absolute_error, edge_error

POOLED_PX = (1, 2, 4, 8)
_LEVEL = 2 / 255  # a level of 8 bits among values of -1..1: smaller amplitudes count as none


@dataclass(frozen=True)
class Weights:
    """What each error counts; 0 leaves it out. perceptual: of the features of a CLIP, relative to the others."""

    absolute: float = 1.0
    squared: float = 1.0
    scales: float = 0.5
    edges: float = 0.5
    spectrum: float = 0.0
    perceptual: float = 0.0

    def __post_init__(self):
        values = [getattr(self, one.name) for one in fields(self)]
        if not all(0 <= value < float("inf") for value in values) or not sum(values[:-1]) > 0:
            told = ", ".join(f"{one.name} {getattr(self, one.name):g}" for one in fields(self))
            raise ValueError(
                f"the weights of the losses are {told}: expected numbers of 0 or more, and one above 0 beside the "
                "perceptual one"
            )


def squared_error(error: Tensor) -> Tensor:
    """Mean squared error. Any shape -> []"""
    return error.square().mean()


def error_of_scales(error: Tensor) -> Tensor:
    """Mean absolute error of the pictures, and of them made smaller by the mean of 2, 4 and 8 px, where they have as
    many: what is wrong in large areas counts more than what is wrong between pixels. [B, C, H, W] -> []
    """
    sizes = [px for px in POOLED_PX if px <= min(error.shape[-2:])]
    return torch.stack([avg_pool2d(error, px).abs().mean() for px in sizes]).mean()


def spectrum_error(pixels: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean absolute difference of the logarithms of the amplitudes of all frequencies, wherever a detail lies: what
    was blurred counts, though most of a picture is in its low frequencies. [B, C, H, W] twice -> []
    """
    first, second = (
        torch.fft.rfft2(one.float(), norm="ortho").abs().add(_LEVEL).log() for one in (pixels, reconstruction)
    )
    return (first - second).abs().mean()


def errors_of(pixels: Tensor, reconstruction: Tensor, weights: Weights) -> dict[str, Tensor]:
    """Each error that counts, without its weight, in float32. [B, C, H, W] in -1..1 twice -> scalars by name

    Raises:
        ValueError: the shapes differ.
    """
    if pixels.shape != reconstruction.shape:
        raise ValueError(f"the reconstruction is {list(reconstruction.shape)} but the picture is {list(pixels.shape)}")
    error = reconstruction.float() - pixels.float()
    ways = {
        "absolute": lambda: absolute_error(error),
        "squared": lambda: squared_error(error),
        "scales": lambda: error_of_scales(error),
        "edges": lambda: edge_error(error),
        "spectrum": lambda: spectrum_error(pixels, reconstruction),
    }
    return {name: way() for name, way in ways.items() if getattr(weights, name)}


def weighted(errors: Mapping[str, Tensor], weights: Weights) -> Tensor:
    """The sum of the errors, each times its weight. -> []"""
    return torch.stack([getattr(weights, name) * error for name, error in errors.items()]).sum()
