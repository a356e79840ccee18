"""Pictures without things in them, for the autoencoder: dead leaves, gradients and 1/f noise, so that it also does well
on photographs, whose statistics these share (Lee, Mumford & Huang 2001, "Occlusion models for natural images"; Field
1987 for the 1/f spectrum).
"""

import math

import torch
from torch import Generator, Tensor

from .drawing import FINE, draw, window
from .scene import PAIRS, random_scenes

_LEAVES = 24


def _uniform(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _colours(generator: Generator, *shape: int) -> Tensor:
    """Natural colours: a grey plus a smaller deviation. [*shape, 3] in 0..1"""
    grey = _uniform(generator, 0, 1, *shape, 1)
    return (grey + 0.22 * torch.randn((*shape, 3), generator=generator)).clamp(0, 1)


def spectral_noise(count: int, size_px: int, generator: Generator, slope: float = 1.0) -> Tensor:
    """Noise whose amplitude falls as 1 / frequency**slope, of unit deviation. [B, 3, S, S]"""
    white = torch.randn(count, 3, size_px, size_px, generator=generator)
    frequency = torch.hypot(torch.fft.fftfreq(size_px)[:, None], torch.fft.rfftfreq(size_px)[None])
    spectrum = torch.fft.rfft2(white) / frequency.clamp(min=1 / size_px) ** slope
    noise = torch.fft.irfft2(spectrum, s=(size_px, size_px))
    noise = noise - noise.mean(dim=(2, 3), keepdim=True)
    mixed = noise + 2 * noise.mean(dim=1, keepdim=True)  # mostly brightness, some colour
    return mixed / mixed.std(dim=(1, 2, 3), keepdim=True)


def clouds(count: int, size_px: int, generator: Generator, zoom: float = 1.0) -> Tensor:
    """1/f noise of random slope and contrast around a random colour; steeper where zoomed. [B, 3, S, S] in 0..1"""
    slope = float(_uniform(generator, 0.7, 1.6, 1)) * zoom**0.3
    contrast = _uniform(generator, 0.03, 0.3, count, 1, 1, 1)
    colour = _colours(generator, count)[..., None, None]
    return (colour + contrast * spectral_noise(count, size_px, generator, slope)).clamp(0, 1)


def gradients(count: int, size_px: int, generator: Generator, zoom: float = 1.0) -> Tensor:
    """A straight blend of two colours, and a grating over half of them. [B, 3, S, S] in 0..1"""
    x, y = window(size_px, zoom, generator)
    angle = _uniform(generator, 0, 2 * math.pi, count, 1, 1)
    along = torch.cos(angle) * x + torch.sin(angle) * y  # [B, S, S]
    first, second = _colours(generator, 2, count)[..., None, None]
    blend = torch.lerp(first, second, ((along + 1) / 2).clamp(0, 1)[:, None])
    waves = torch.sin(along * torch.exp(_uniform(generator, 1.0, 3.6, count, 1, 1)))
    strength = _uniform(generator, -0.3, 0.3, count, 1, 1).clamp(min=0)
    return (blend + (strength * waves)[:, None]).clamp(0, 1)


def dead_leaves(count: int, size_px: int, generator: Generator, zoom: float = 1.0) -> Tensor:
    """Ellipses and boxes of all sizes that cover each other, each a colour with a slope and a little 1/f texture.

    [B, 3, S, S] in 0..1
    """
    x, y = window(size_px, zoom, generator)
    picture = _colours(generator, count)[..., None, None].expand(-1, -1, size_px, size_px)
    texture = spectral_noise(count, size_px, generator)
    for leaf in range(_LEAVES):
        angle = _uniform(generator, 0, math.pi, count, 1, 1)
        dx, dy = x - _uniform(generator, -1.2, 1.2, count, 1, 1), y - _uniform(generator, -1.2, 1.2, count, 1, 1)
        u, v = torch.cos(angle) * dx + torch.sin(angle) * dy, torch.cos(angle) * dy - torch.sin(angle) * dx
        radius = 0.9 * (0.07 / 0.9) ** (_uniform(generator, 0.6, 1.0, count, 1, 1) * leaf / (_LEAVES - 1))
        u, v = u / radius, v / (radius * _uniform(generator, 0.3, 1.0, count, 1, 1))
        boxy = torch.rand(count, 1, 1, generator=generator) < 0.4
        distance = torch.where(boxy, torch.maximum(u.abs(), v.abs()), torch.hypot(u, v)) - 1
        sharp = torch.where(torch.rand(count, 1, 1, generator=generator) < 0.8, 1.0, 0.2)  # some out of focus
        cover = (0.5 - distance * radius * size_px * zoom / 2 * sharp).clamp(0, 1)[:, None]
        slope = _uniform(generator, -0.15, 0.15, count, 1, 1, 1)
        grain = _uniform(generator, -0.08, 0.10, count, 1, 1, 1).clamp(min=0)
        colour = _colours(generator, count)[..., None, None] + slope * u[:, None].clamp(-1, 1) + grain * texture
        picture = torch.lerp(picture, colour, cover)
    return picture.clamp(0, 1)


def scenes(count: int, size_px: int, generator: Generator, zoom: float = 1.0) -> Tensor:
    """Scenes of any pair and texture. [B, 3, S, S] in 0..1"""
    facts = random_scenes(count, generator, PAIRS, textures=(0, 0, 1, 2))
    return draw(facts, size_px, generator, zoom=zoom, periods=FINE)


KINDS = {"scenes": scenes, "leaves": dead_leaves, "clouds": clouds, "gradients": gradients}
_SHARES = {"scenes": 0.45, "leaves": 0.40, "clouds": 0.09, "gradients": 0.06}


def mixed_pictures(count: int, size_px: int, generator: Generator, zoom: float = 1.0) -> Tensor:
    """Pictures of all kinds, each kind as likely as in the training of the bundled autoencoder.

    With a `zoom` they look like parts of pictures that are `zoom` times as wide.

    [count, 3, S, S] in 0..1
    """
    dice = torch.multinomial(torch.tensor(list(_SHARES.values())), count, replacement=True, generator=generator)
    parts = zip(_SHARES, dice.bincount(minlength=len(_SHARES)).tolist())
    return torch.cat([KINDS[name](part, size_px, generator, zoom) for name, part in parts if part])
