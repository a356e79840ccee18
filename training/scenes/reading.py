"""An independent reading of a picture's pixels: which shape in which colour is in it, without any trained network.

The ground is the palette's background that most pixels are near to, with a slope; what stands out from it is cut into
connected things; of the largest, the colour is the palette's nearest, and the shape is the one whose drawing, laid over
it at its own place and size, covers it best. Whether it has stripes is read from the spread of its colours.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from .scene import BACKGROUNDS, COLOURS, SHAPES
from .shapes import DISTANCES

_NEAR = 0.16  # RGB distance within which a pixel may be ground
_OUT = 0.14  # RGB distance from the ground at which a pixel is part of a thing
_LEAST_SHARE = 0.004  # of the picture: what is smaller is a speck
_LEAST_INNER = 4  # pixels of a thing whose colour is looked at
_OTHER_COLOUR = 0.15  # RGB distance from a thing's usual colour; stripes on brown are 0.2 away
_LEAST_OTHER = 0.08  # share of a thing's pixels
_LEAST_DIRECTED = 0.4  # of the change of colours, in stripes
_ANGLES = tuple(math.radians(degrees) for degrees in range(-15, 16, 5))  # scenes are tilted by at most 14 degrees
_RADII = (0.93, 1.0, 1.07)
_SHIFTS = (-0.06, 0.0, 0.06)  # of the radius


@dataclass(frozen=True)
class Read:
    """What was read: indices into SHAPES and COLOURS, and how well the shape covers the thing, 0..1."""

    shape: int
    colour: int
    overlap: float


def read_picture(picture: Tensor) -> Read | None:
    """Read the largest thing in a picture; None where nothing stands out. [3, H, W] in 0..1, float32 on the CPU"""
    height, width = picture.shape[1:]
    cover = _cover(picture)
    thing = _largest(cover > 0.5)
    if thing.sum() < _LEAST_SHARE * height * width:
        return None
    inner = _eroded(thing)
    pixels = picture[:, inner if inner.sum() >= _LEAST_INNER else thing]  # [3, N]
    palette = torch.tensor(list(COLOURS.values()))
    colour = int((palette - pixels.median(dim=1).values).norm(dim=1).argmin())
    around = functional.max_pool2d(thing[None].float(), 3, 1, 1)[0]  # its soft edge, but no neighbour
    shape, overlap = _best_shape(_trimmed(cover * around))
    return Read(shape, colour, overlap)


def shows_stripes(picture: Tensor) -> bool:
    """Whether the largest thing in a picture has a second colour in stripes: its colours change in one direction, where
    those of dots and blots change in all.

    It is meant for things on a gray ground, which neither black nor white stripes can be taken for. [3, H, W] in 0..1,
    float32 on the CPU
    """
    inner = _eroded(_largest(_cover(picture) > 0.5))
    if inner.sum() < _LEAST_INNER:
        return False
    pixels = picture[:, inner]  # [3, N]
    away = (pixels - pixels.median(dim=1, keepdim=True).values).norm(dim=0)
    return float((away > _OTHER_COLOUR).float().mean()) > _LEAST_OTHER and _directed(picture, inner) > _LEAST_DIRECTED


def _directed(picture: Tensor, where: Tensor) -> float:
    """How much of the change of colours in a mask is in one direction, 0..1: the coherence of its structure tensor
    (Bigun & Granlund 1987), (l1 - l2) / (l1 + l2). [3, H, W], [H, W] bool
    """
    down, across = torch.gradient(picture, dim=(1, 2))
    down, across = down[:, where], across[:, where]
    xx, yy, xy = (float((one * other).sum()) for one, other in ((across, across), (down, down), (across, down)))
    return math.hypot(xx - yy, 2 * xy) / max(xx + yy, 1e-12)


def _eroded(thing: Tensor) -> Tensor:
    """The mask without its edge, where colours mix. [H, W] bool -> [H, W] bool"""
    return thing & (functional.avg_pool2d(thing[None].float(), 3, 1, 1)[0] > 0.99)


def _cover(picture: Tensor) -> Tensor:
    """How much of each pixel something else than the ground covers, about 0..1. [3, H, W] -> [H, W]"""
    grounds = torch.tensor(list(BACKGROUNDS.values()))[..., None, None]
    distances = (picture - grounds).norm(dim=1)  # [3 grounds, H, W]
    nearest = int((distances < _NEAR).flatten(1).sum(dim=1).argmax())
    is_ground = distances[nearest] < _NEAR
    away = (picture - _sloped(picture, is_ground)).norm(dim=0)
    is_ground &= away < _OUT
    away = (picture - _sloped(picture, is_ground)).norm(dim=0)
    things = away[away > _OUT]
    full = things.quantile(0.7) if len(things) else torch.tensor(1.0)  # a thing's own distance from the ground
    return (away / full).clamp(0, 1)


def _sloped(picture: Tensor, where: Tensor) -> Tensor:
    """The plane through the pixels of each channel at `where`. [3, H, W], [H, W] bool -> [3, H, W]"""
    height, width = where.shape
    down, across = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    columns = torch.stack([torch.ones(height, width), across, down], dim=2)  # [H, W, 3]
    if where.sum() < 8:
        return torch.zeros_like(picture)
    plane = torch.linalg.lstsq(columns[where], picture[:, where].T).solution  # [3, 3]
    return (columns @ plane).permute(2, 0, 1)


def _largest(mask: Tensor) -> Tensor:
    """The largest connected part of a mask; diagonal neighbours are connected. [H, W] bool -> [H, W] bool"""
    numbers = torch.arange(1, mask.numel() + 1, dtype=torch.float32).view(mask.shape) * mask
    while True:
        spread = functional.max_pool2d(numbers[None], 3, 1, 1)[0] * mask
        if torch.equal(spread, numbers):
            break
        numbers = spread
    counts = numbers[mask].long().bincount() if mask.any() else torch.zeros(1)
    return mask & (numbers == float(counts.argmax())) if mask.any() else mask


def _trimmed(cover: Tensor) -> Tensor:
    """The thing with a border of two pixels, in which a drawing may stick out. [H, W] -> [h, w]"""
    rows, columns = torch.nonzero(cover.any(dim=1))[:, 0], torch.nonzero(cover.any(dim=0))[:, 0]
    return functional.pad(cover[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1], (2, 2, 2, 2))


def _best_shape(cover: Tensor) -> tuple[int, float]:
    """The shape whose drawing overlaps the thing most, and how much: shared over joined area.

    [H, W] -> index into SHAPES, 0..1
    """
    height, width = cover.shape
    down, across = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    area = cover.sum()
    x, y = (cover * across).sum() / area, (cover * down).sum() / area
    best = (0, -1.0)
    for number, name in enumerate(SHAPES):
        overlap = 0.0
        for angle in _ANGLES:
            own_area, own_x, own_y = _moments(name, angle)
            radius = float((area / own_area).sqrt())
            drawings = _drawings(name, angle, radius, float(x) - own_x * radius, float(y) - own_y * radius, cover.shape)
            shared = torch.minimum(drawings, cover).flatten(1).sum(dim=1)
            joined = torch.maximum(drawings, cover).flatten(1).sum(dim=1)
            overlap = max(overlap, float((shared / joined).max()))
        best = max(best, (number, overlap), key=lambda pair: pair[1])
    return best


def _drawings(name: str, angle: float, radius: float, x: float, y: float, size: torch.Size) -> Tensor:
    """A shape at a place in pixels, a little larger, smaller and aside. -> [places, H, W] in 0..1"""
    height, width = size
    down, across = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    places = torch.cartesian_prod(torch.tensor(_RADII), torch.tensor(_SHIFTS), torch.tensor(_SHIFTS))  # [P, 3]
    radii = (radius * places[:, 0]).clamp(min=0.5)[:, None, None]
    dx = (across - x) / radii - places[:, 1, None, None]
    dy = (down - y) / radii - places[:, 2, None, None]
    return (0.5 - _distance(name, angle, dx, dy) * radii).clamp(0, 1)


@lru_cache(maxsize=256)
def _moments(name: str, angle: float) -> tuple[float, float, float]:
    """Area and centre of a shape of radius 1."""
    line = torch.linspace(-1.2, 1.2, 241)
    y, x = torch.meshgrid(line, line, indexing="ij")
    inside = (_distance(name, angle, x, y) < 0).float()
    area = inside.sum()
    return float(area) * 0.01**2, float((inside * x).sum() / area), float((inside * y).sum() / area)


def _distance(name: str, angle: float, x: Tensor, y: Tensor) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return DISTANCES[name](cos * x + sin * y, cos * y - sin * x)
