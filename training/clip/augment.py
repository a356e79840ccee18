"""Pictures a little changed each time they are seen, so that what is learned does not hang on their pixels.

Every random number comes in from outside, so that a picture is changed alike whoever computes it, and as often as it is
computed. The cut is torchvision's RandomResizedCrop (Szegedy et al., arXiv 1409.4842) in one draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...clip_core.features.preprocess import square_of

NUMBERS = 8  # random ones for each picture
_RATIOS = (math.log(3 / 4), math.log(4 / 3))  # of a cut's sides
_GREY = (0.299, 0.587, 0.114)  # ITU-R 601


@dataclass(frozen=True)
class Augmentation:
    """crop: least share of the picture's area that is cut out and scaled to the square; 1: the picture as the model
    looks at it otherwise. flip: whether half of the pictures are mirrored. jitter: by what share brightness, contrast
    and saturation change at most; 0: not at all.
    """

    crop: float = 0.9  # as open_clip
    flip: bool = False  # letters and digits have a left and a right
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1 or not 0 <= self.jitter < 1:
            raise ValueError(
                f"crop is {self.crop:g} and jitter {self.jitter:g}: expected a share of the area above 0 and up to 1, "
                "and a share of 0 or more and less than 1; change them"
            )


def augmented(picture: Tensor, size_px: int, resize: str, numbers: Tensor, how: Augmentation) -> Tensor:
    """Cut, mirror and recolour a picture by NUMBERS random numbers in 0..1.

    uint8 [3, H, W], [NUMBERS] -> float32 [3, size_px, size_px] in 0..1
    """
    if how.crop < 1:
        top, left, height, width = cut_of(picture.shape[1], picture.shape[2], how.crop, numbers[:4].tolist())
        part = picture[None, :, top : top + height, left : left + width].float()
        square = functional.interpolate(part, size=(size_px, size_px), mode="bicubic", antialias=True)[0]
        square = square.clamp(0, 255) / 255
    else:
        square = square_of(picture, size_px, resize).float() / 255
    if how.flip and float(numbers[4]) < 0.5:
        square = square.flip(-1)
    return _recoloured(square, (2 * numbers[5:8] - 1) * how.jitter) if how.jitter else square


def cut_of(height: int, width: int, least: float, numbers: list[float]) -> tuple[int, int, int, int]:
    """Top, left, height and width of a cut of at least this share of the area, its sides' ratio between 3:4 and 4:3, as
    far as the picture is large enough, by four numbers in 0..1.
    """
    area = height * width * (least + (1 - least) * numbers[0])
    ratio = math.exp(_RATIOS[0] + (_RATIOS[1] - _RATIOS[0]) * numbers[1])
    wide = min(width, max(1, round(math.sqrt(area * ratio))))
    tall = min(height, max(1, round(area / wide)))
    wide = min(width, max(wide, round(area / tall)))
    return int(numbers[2] * (height - tall + 1)), int(numbers[3] * (width - wide + 1)), tall, wide


def _recoloured(square: Tensor, by: Tensor) -> Tensor:
    """Change brightness, contrast and saturation by factors 1 + by. [3, S, S], [3] -> [3, S, S]"""
    weights = square.new_tensor(_GREY)[:, None, None]
    square = (square * (1 + by[0])).clamp(0, 1)
    mean = (square * weights).sum(0).mean()
    square = (mean + (square - mean) * (1 + by[1])).clamp(0, 1)
    grey = (square * weights).sum(0)
    return (grey + (square - grey) * (1 + by[2])).clamp(0, 1)


def draw_numbers(count: int, generator: torch.Generator) -> Tensor:
    """Draw the numbers of so many pictures, each less than 1. -> [count, NUMBERS]"""
    return torch.rand(count, NUMBERS, generator=generator)
