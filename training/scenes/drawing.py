"""Facts -> pictures, in plain torch: signed distances with smooth edges, jittered colours, places and angles."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .scene import BACKGROUNDS, COLOURS, SHAPES, Scenes
from .shapes import DISTANCES

_RADIUS_ALONE = torch.tensor([0.42, 0.56, 0.74])  # of small, medium, large; half a picture is 1
_RADIUS_CROWDED = torch.tensor([0.32, 0.37, 0.43])  # where two to four share the picture
BROAD = (0.22, 0.38)  # stripes and dots that can still be told at 48 px
FINE = (0.14, 0.26)  # and finer ones
_QUADRANTS = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])


@dataclass(frozen=True)
class _Places:
    """Where the things of each picture are; -1..1 spans the picture, y down."""

    x: Tensor  # [B, 4]
    y: Tensor  # [B, 4]
    radius: Tensor  # [B, 4]
    angle: Tensor  # [B, 4] radians
    there: Tensor  # [B, 4] bool


def window(size_px: int, zoom: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """The coordinates x and y of the pixels of a picture that spans -1..1, or of a random part of it, 1 / zoom wide.

    [S, S] twice
    """
    line = (torch.arange(size_px) + 0.5) / size_px * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    if zoom == 1:
        return x, y
    across, down = _uniform(generator, -1, 1, 2) * (1 - 1 / zoom)
    return x / zoom + across, y / zoom + down


def draw(
    scenes: Scenes,
    size_px: int,
    generator: Generator,
    *,
    zoom: float = 1.0,
    periods: tuple[float, float] = BROAD,
) -> Tensor:
    """Pictures of `scenes`; what the facts leave open (exact place, hue, tilt, noise) comes from `generator`.

    Args:
        zoom: above 1 shows a part, the same of all.
        periods: the least and the largest distance between two stripes or dots; half a picture is 1.

    [B, 3, size_px, size_px] in 0..1, float32
    """
    places = _places(scenes, generator)
    x, y = window(size_px, zoom, generator)
    picture = _backgrounds(scenes, x, y, generator)  # [B, 3, H, W]
    paint = _paint(scenes, x, y, generator, periods)  # [B, 3, H, W]
    cover = torch.zeros(len(scenes), size_px, size_px)
    for name in scenes.shape.unique().tolist():
        for slot in range(4):
            rows = torch.nonzero((scenes.shape == name) & places.there[:, slot])[:, 0]
            if len(rows):
                cover[rows] = torch.maximum(cover[rows], _cover(SHAPES[name], places, rows, slot, x, y, size_px * zoom))
    picture = torch.lerp(picture, paint, cover[:, None])
    noise = torch.randn(picture.shape, generator=generator)
    return (picture + noise * _uniform(generator, 0, 0.02, len(scenes), 1, 1, 1)).clamp(0, 1)


def without_colour(pictures: Tensor, generator: Generator) -> Tensor:
    """Grey pictures; each weighs red, green and blue in its own random way, so that grey does not tell the colour.

    [B, 3, H, W] -> [B, 3, H, W]
    """
    weights = torch.rand(len(pictures), 3, 1, 1, generator=generator) + 0.01
    return (pictures * weights / weights.sum(dim=1, keepdim=True)).sum(dim=1, keepdim=True).expand_as(pictures)


def _uniform(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _places(scenes: Scenes, generator: Generator) -> _Places:
    """One thing lies where its row and column say; several share the four quadrants."""
    count = len(scenes)
    alone = scenes.count == 0
    radius = torch.where(alone, _RADIUS_ALONE[scenes.size], _RADIUS_CROWDED[scenes.size])
    radius = radius * _uniform(generator, 0.92, 1.08, count)
    room = (1 - radius).clamp(min=0.2)
    centre = torch.stack([scenes.column, scenes.row], dim=1) - 1  # [B, 2] in -1, 0, 1
    alone_at = (centre * 0.85 + _uniform(generator, -0.15, 0.15, count, 2)) * room[:, None]
    quadrants = _QUADRANTS[torch.rand(count, 4, generator=generator).argsort(dim=1)]  # [B, 4, 2]
    crowded_at = quadrants + _uniform(generator, -0.08, 0.08, count, 4, 2)
    at = torch.where(alone[:, None, None], alone_at[:, None].expand(-1, 4, -1), crowded_at)
    there = torch.arange(4)[None] <= scenes.count[:, None]
    angle = _uniform(generator, -0.25, 0.25, count, 4)
    return _Places(at[..., 0], at[..., 1], radius[:, None].expand(-1, 4), angle, there)


def _cover(shape: str, places: _Places, rows: Tensor, slot: int, x: Tensor, y: Tensor, size_px: float) -> Tensor:
    """How much of each pixel the thing in `slot` covers, 0..1, where the whole picture is `size_px` wide.

    [len(rows), H, W]
    """

    def of(values: Tensor) -> Tensor:
        return values[rows, slot, None, None]

    dx, dy = (x - of(places.x)) / of(places.radius), (y - of(places.y)) / of(places.radius)
    cos, sin = torch.cos(of(places.angle)), torch.sin(of(places.angle))
    distance = DISTANCES[shape](cos * dx + sin * dy, cos * dy - sin * dx)
    return (0.5 - distance * of(places.radius) * size_px / 2).clamp(0, 1)


def _backgrounds(scenes: Scenes, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
    """A colour with a faint slope across the picture."""
    colour = torch.tensor(list(BACKGROUNDS.values()))[scenes.background]
    count = len(scenes)
    colour = colour + _uniform(generator, -0.05, 0.05, count, 1) + _uniform(generator, -0.02, 0.02, count, 3)
    slope = _uniform(generator, -0.05, 0.05, count, 2, 1, 1)
    return colour[..., None, None] + (slope[:, :1] * x + slope[:, 1:] * y)


def _paint(scenes: Scenes, x: Tensor, y: Tensor, generator: Generator, periods: tuple[float, float]) -> Tensor:
    """The colour of the things, with stripes or dots of a dark or light second colour where the texture says so."""
    count = len(scenes)
    colour = torch.tensor(list(COLOURS.values()))[scenes.colour]
    colour = colour * _uniform(generator, 0.88, 1.08, count, 1) + _uniform(generator, -0.04, 0.04, count, 3)
    angle = _uniform(generator, 0, math.pi, count, 1, 1)
    period = _uniform(generator, *periods, count, 1, 1)
    bright = torch.randint(2, (count, 1), generator=generator) * 0.9 + 0.05
    u = (torch.cos(angle) * x + torch.sin(angle) * y) * (2 * math.pi / period)
    v = (torch.cos(angle) * y - torch.sin(angle) * x) * (2 * math.pi / period)
    stripes = (torch.sin(u) * 3 + 0.5).clamp(0, 1)
    dots = ((torch.sin(u) + torch.sin(v) - 0.9) * 3).clamp(0, 1)
    texture = scenes.texture[:, None, None]
    second = torch.where(texture == 1, stripes, torch.where(texture == 2, dots, torch.zeros(())))
    return torch.lerp(colour[..., None, None], bright[..., None, None].expand(-1, 3, 1, 1), second[:, None])
