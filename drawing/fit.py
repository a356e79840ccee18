"""Pictures of many sizes as one batch of one size."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

FITS = ("pad", "crop")


def batch_size_px(width_px: int, height_px: int, longest_px: int) -> tuple[int, int]:
    """Width and height with the longer side at most `longest_px`; never enlarged."""
    share = min(1.0, longest_px / max(width_px, height_px))
    return max(1, round(width_px * share)), max(1, round(height_px * share))


def fit_picture(picture: Tensor, width_px: int, height_px: int, how: str) -> Tensor:
    """A picture at another size, its proportions kept: "pad" shows all of it on black, "crop" fills the size and cuts
    what sticks out at both ends. A picture of that size keeps its pixels.

    uint8 [H, W, 3] -> uint8 [height_px, width_px, 3]
    """
    height, width = picture.shape[:2]
    if (width, height) == (width_px, height_px):
        return picture
    shares = width_px / width, height_px / height
    share = max(shares) if how == "crop" else min(shares)
    size = max(1, round(width * share)), max(1, round(height * share))
    scaled = Image.fromarray(picture.numpy()).resize(size, Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (width_px, height_px))
    canvas.paste(scaled, ((width_px - size[0]) // 2, (height_px - size[1]) // 2))
    return torch.from_numpy(np.array(canvas))


def picture_bytes(width_px: int, height_px: int) -> int:
    """The memory of one picture of a batch: three colours of four bytes."""
    return width_px * height_px * 3 * 4


class Batch:
    """A batch that is filled picture by picture, so that it is in memory once and no more."""

    def __init__(self, most: int, width_px: int, height_px: int, how: str):
        self._images = torch.empty(most, height_px, width_px, 3)
        self._size, self._how, self._filled = (width_px, height_px), how, 0

    @property
    def is_full(self) -> bool:
        return self._filled == len(self._images)

    @property
    def images(self) -> Tensor:
        """The pictures put in so far, [N, H, W, 3] in 0..1."""
        return self._images[: self._filled]

    def put(self, picture: Tensor) -> None:
        """Put a picture in, fitted to the size. uint8 [H, W, 3]"""
        torch.div(fit_picture(picture, *self._size, self._how), 255, out=self._images[self._filled])
        self._filled += 1

    def repeat(self, number: int) -> None:
        """Put a picture in that is there already, by its number."""
        self._images[self._filled] = self._images[number]
        self._filled += 1
