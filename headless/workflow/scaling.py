"""Pictures scaled as ComfyUI's ImageScale does (0.3.64: comfy/utils.py, common_upscale)."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")


def scaled(image: Tensor, method: str, width: int, height: int, *, centre: bool) -> Tensor:
    """A side of 0 follows from the other, both 0 change nothing; `centre` cuts to the new proportions first.

    [B, H, W, C] -> [B, height, width, C]
    """
    if width == 0 and height == 0:
        return image
    old_height, old_width = image.shape[1:3]
    width = width or max(1, round(old_width * height / old_height))
    height = height or max(1, round(old_height * width / old_width))
    if centre:
        image = _cut(image, width / height)
    if method == "lanczos":  # Pillow's, on 8 bits, as there
        pictures = [Image.fromarray((255.0 * row.cpu().numpy()).clip(0, 255).astype(np.uint8)) for row in image]
        resized = [np.array(picture.resize((width, height), Image.Resampling.LANCZOS)) for picture in pictures]
        return torch.from_numpy(np.stack(resized).astype(np.float32) / 255.0)
    return interpolate(image.movedim(-1, 1), size=(height, width), mode=method).movedim(1, -1)


def _cut(image: Tensor, aspect: float) -> Tensor:
    height, width = image.shape[1:3]
    x = y = 0
    old = width / height
    if old > aspect:
        x = round((width - width * (aspect / old)) / 2)
    elif old < aspect:
        y = round((height - height * (old / aspect)) / 2)
    return image[:, y : height - y, x : width - x]
