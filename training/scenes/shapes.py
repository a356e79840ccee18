"""Signed distances of ten shapes that fill about the unit disc; negative inside. y points down, as in pictures.

The distances of box, triangle, star and heart are those of Inigo Quilez, "2D distance functions" (iquilezles.org),
written anew for tensors. Those of diamond, moon and arrow bound the true distance, which is enough for smooth edges.
"""

import math

import torch
from torch import Tensor


def circle(x: Tensor, y: Tensor) -> Tensor:
    """Of radius 0.88."""
    return torch.hypot(x, y) - 0.88


def box(x: Tensor, y: Tensor, half_width: float, half_height: float) -> Tensor:
    """An upright rectangle around the origin."""
    dx, dy = x.abs() - half_width, y.abs() - half_height
    return torch.hypot(dx.clamp(min=0), dy.clamp(min=0)) + torch.maximum(dx, dy).clamp(max=0)


def square(x: Tensor, y: Tensor) -> Tensor:
    """Of side 1.52."""
    return box(x, y, 0.76, 0.76)


def triangle(x: Tensor, y: Tensor) -> Tensor:
    """Equilateral, a corner up."""
    side, root = 0.92, math.sqrt(3.0)
    x, y = x.abs() - side, -(y - 0.15) + side / root
    fold = x + root * y > 0
    x, y = torch.where(fold, (x - root * y) / 2, x), torch.where(fold, (-root * x - y) / 2, y)
    x = x - x.clamp(-2 * side, 0)
    return -torch.hypot(x, y) * torch.sign(y)


def star(x: Tensor, y: Tensor) -> Tensor:
    """Five points, one of them up."""
    outer, inner = 1.0, 0.42
    sector = math.pi / 5
    angle = torch.atan2(x, -y)
    angle = (torch.remainder(angle + sector, 2 * sector) - sector).abs()  # 0 at a point, sector at a notch
    radius = torch.hypot(x, y)
    px, py = radius * torch.cos(angle), radius * torch.sin(angle)
    edge_x, edge_y = inner * math.cos(sector) - outer, inner * math.sin(sector)
    along = (((px - outer) * edge_x + py * edge_y) / (edge_x**2 + edge_y**2)).clamp(0, 1)
    distance = torch.hypot(px - outer - along * edge_x, py - along * edge_y)
    outside = edge_x * py - edge_y * (px - outer) < 0
    return torch.where(outside, distance, -distance)


def cross(x: Tensor, y: Tensor) -> Tensor:
    """A plus sign."""
    return torch.minimum(box(x, y, 0.92, 0.29), box(x, y, 0.29, 0.92))


def ring(x: Tensor, y: Tensor) -> Tensor:
    """A circle with a hole."""
    return (torch.hypot(x, y) - 0.68).abs() - 0.22


def heart(x: Tensor, y: Tensor) -> Tensor:
    """Its tip down."""
    scale = 0.62
    x, y = x.abs() / 2 / scale * 1.05, (0.92 - y) / 2 / scale * 1.05
    lobe = torch.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    half = (x + y).clamp(min=0) / 2
    nearest = torch.minimum(torch.hypot(x, y - 1), torch.hypot(x - half, y - half))
    return torch.where(x + y > 1, lobe, nearest * torch.sign(x - y)) * 2 * scale / 1.05


def moon(x: Tensor, y: Tensor) -> Tensor:
    """A crescent, open to the right."""
    return torch.maximum(torch.hypot(x, y) - 0.92, 0.74 - torch.hypot(x - 0.46, y))


def diamond(x: Tensor, y: Tensor) -> Tensor:
    """Upright, narrower than high."""
    width, height = 0.62, 1.0
    return (x.abs() / width + y.abs() / height - 1) * width * height / math.hypot(width, height)


def arrow(x: Tensor, y: Tensor) -> Tensor:
    """Pointing right."""
    shaft = box(x + 0.45, y, 0.5, 0.2)
    head = torch.maximum((x - 0.95 + y.abs() * 1.2) / math.hypot(1, 1.2), 0.05 - x)
    return torch.minimum(shaft, head)


DISTANCES = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "cross": cross,
    "ring": ring,
    "heart": heart,
    "moon": moon,
    "diamond": diamond,
    "arrow": arrow,
}
