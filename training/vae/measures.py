"""How near reconstructions come to whole pictures: noise, structure, edges, fine details, colours, the worst place."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from torch import Tensor
from torch.nn.functional import avg_pool2d

from ...vae_core.quality import SSIM_WINDOW_PX, psnr_db, ssim
from ..losses import absolute_error, edge_error

TILE_PX = 64
_MOST_DB = 120.0  # of equal pictures, whose ratio has no end
_FLAT = 1e-10  # mean squared details below which a picture has none


@dataclass(frozen=True)
class Tile:
    """A square part of a picture and the ratio there, in dB."""

    left_px: int
    top_px: int
    side_px: int
    psnr_db: float


@dataclass(frozen=True)
class Quality:
    """One reconstruction beside its picture.

    ssim: None for a picture smaller than its window. edges: mean absolute error of the differences of neighbours, of
    values in 0..1. details: the energy of the finest details divided by the picture's, 1 where nothing was blurred;
    None for a picture without any. colour_shift: mean of result minus picture, of each channel.
    """

    psnr_db: float
    ssim: float | None
    edges: float
    details: float | None
    colour_shift: tuple[float, ...]
    worst_tile: Tile

    def as_data(self) -> dict[str, object]:
        """The numbers for JSON, rounded."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


def quality_of(picture: Tensor, result: Tensor) -> Quality:
    """Measure a reconstruction. [1, H, W, C] in 0..1 twice -> Quality"""
    error = result - picture
    small = min(picture.shape[1:3]) < SSIM_WINDOW_PX
    energy, of_result = (float(_details(one).square().mean()) for one in (picture, result))
    return Quality(
        _bounded(psnr_db(picture, result)),
        None if small else float(ssim(picture, result)),
        float(edge_error(error.movedim(-1, 1))),
        of_result / energy if energy > _FLAT else None,
        tuple(error.mean((0, 1, 2)).tolist()),
        _worst_tile(error),
    )


def mean_quality(qualities: Mapping[str, Quality]) -> dict[str, object]:
    """The means over pictures, the largest shift of colours, and the worst tile with its picture's name."""
    found = list(qualities.values())
    name = min(qualities, key=lambda one: qualities[one].worst_tile.psnr_db)
    return {
        "psnr_db": _rounded(fmean(one.psnr_db for one in found)),
        "ssim": _mean([one.ssim for one in found]),
        "edges": _rounded(fmean(one.edges for one in found)),
        "details": _mean([one.details for one in found]),
        "colour_shift": _rounded(max((shift for one in found for shift in one.colour_shift), key=abs)),
        "worst_tile": {"picture": name, **qualities[name].as_data()["worst_tile"]},  # type: ignore[dict-item]
    }


def errors_in_short(picture: Tensor, result: Tensor) -> tuple[float, float]:
    """The mean absolute error and that of edges, which a course of a training shows. [1, H, W, C] twice"""
    error = (result - picture).movedim(-1, 1)
    return float(absolute_error(error)), float(edge_error(error))


def _details(image: Tensor) -> Tensor:
    """What a picture loses where each 2 x 2 pixels become their mean. [1, H, W, C] -> [1, C, H', W'], H', W' even"""
    pixels = image.movedim(-1, 1)
    pixels = pixels[..., : pixels.shape[2] // 2 * 2, : pixels.shape[3] // 2 * 2].double()
    return pixels - avg_pool2d(pixels, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)


def _worst_tile(error: Tensor) -> Tile:
    """Tiles lie side by side, the last ones at the far borders. [1, H, W, C] -> Tile"""
    height, width = error.shape[1:3]
    side = min(TILE_PX, height, width)
    squares = error.square().mean(-1)[0]  # [H, W]
    tops, lefts = ([*range(0, length - side, side), length - side] for length in (height, width))
    means = {
        (top, left): float(squares[top : top + side, left : left + side].double().mean())
        for top in tops
        for left in lefts
    }
    top, left = max(means, key=lambda place: means[place])
    worst = means[top, left]
    return Tile(left, top, side, _bounded(-10 * math.log10(worst) if worst else math.inf))


def _bounded(decibels: float) -> float:
    return min(decibels, _MOST_DB)


def _mean(values: Sequence[float | None]) -> object:
    found = [one for one in values if one is not None]
    return _rounded(fmean(found)) if found else None


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, tuple | list) else value
