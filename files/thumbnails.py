"""What drawn reports share: a picture made small, and a text cut to a width."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

_MAX_LABEL = 400  # characters looked at; more can never be drawn


def thumbnail(image: Tensor, side_px: int) -> Image.Image:
    """The picture within a square of side_px. [H, W, 3] in 0..1; what is no number is black"""
    image = image[0] if image.ndim == 4 else image
    if image.ndim != 3 or image.shape[-1] < 3 or not image.numel():
        raise ValueError(f"a thumbnail is a picture [height, width, 3]; got {list(image.shape)}")
    values = np.nan_to_num(image[..., :3].detach().float().cpu().numpy()).clip(0, 1)
    picture = Image.fromarray((values * 255).round().astype(np.uint8))
    scale = side_px / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    return picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


def fitted(draw: ImageDraw.ImageDraw, text: str, font, width_px: float) -> str:
    """The text on one line, cut with an ellipsis where it is too long."""
    text = " ".join(text[:_MAX_LABEL].split())
    if draw.textlength(text, font) <= width_px:
        return text
    while text and draw.textlength(text.rstrip() + "…", font) > width_px:
        text = text[:-1]
    return text.rstrip() + "…"


def as_image(canvas: Image.Image) -> Tensor:
    """-> [1, H, W, 3] in 0..1"""
    return torch.from_numpy(np.array(canvas).astype(np.float32) / 255.0)[None]
