"""Pictures of many sizes as one batch of one size."""

from __future__ import annotations

from collections.abc import Sequence

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


def as_batch(pictures: Sequence[Tensor]) -> Tensor:
    """uint8 [H, W, 3] each, all of one size -> [N, H, W, 3] in 0..1"""
    return torch.stack(list(pictures)).float() / 255
