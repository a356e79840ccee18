"""Pictures put into a folder under names made from their pixels."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from ..files.images import write_png


def add_picture(folder: Path, image: Tensor, text: dict[str, str]) -> bool:
    """Save [H, W, 3] in 0..1 as PNG in the folder under a name made from its pixels; False where it was there already.

    Raises:
        FileFormatError: the disk refused. ValueError: NaN pixels.
    """
    pixels = (image.float() * 255).clamp(0, 255).to(torch.uint8).cpu().contiguous()
    digest = hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).hexdigest()
    path = folder / f"indexed_{digest[:20]}.png"
    if path.exists():
        return False
    write_png(path, image, text)
    return True
