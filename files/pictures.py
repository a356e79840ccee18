"""Picture files as an image encoder wants them: 8-bit colours, and the square cut out of them.

Colours are made as ComfyUI's LoadImage makes them (see `images.py`): the first frame, turned upright by its EXIF mark,
alpha left out.
"""

import warnings
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .errors import FileFormatError
from .images import BROKEN, MAX_PIXELS
from .sniff import regular_file_size


def read_rgb(path: str | PathLike) -> Tensor:
    """-> uint8 [H, W, 3]

    Raises:
        FileFormatError: missing, empty, no picture, cut short, or more than MAX_PIXELS pixels.
    """
    return torch.from_numpy(np.array(_read(Path(path))))


def read_square(path: str | PathLike, size_px: int, resize: str = "crop") -> Tensor:
    """-> uint8 [3, size_px, size_px]; raises as `read_rgb`"""
    picture = _read(Path(path))
    width, height = picture.size
    if resize == "crop":
        wide, tall = (size_px, int(size_px * height / width)) if width <= height \
            else (int(size_px * width / height), size_px)
    else:
        wide, tall = size_px, size_px
    left, top = (int(round((side - size_px) / 2.0)) for side in (wide, tall))
    picture = picture.resize((wide, height), Image.Resampling.BICUBIC).resize((wide, tall), Image.Resampling.BICUBIC)
    picture = picture.crop((left, top, left + size_px, top + size_px))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def _read(path: Path) -> Image.Image:
    regular_file_size(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise FileFormatError(path, f"it has more than {MAX_PIXELS // 10**6} million pixels: too many to "
                                                "open")
                return _rgb(ImageOps.exif_transpose(picture))
    except FileFormatError:
        raise
    except UnidentifiedImageError as error:
        raise FileFormatError(path, "this is no picture of a kind known here; expected PNG, JPEG, WebP, GIF, BMP or "
                                    "TIFF") from error
    except BROKEN as error:
        raise FileFormatError(path, "this picture is damaged or was cut short, and cannot be read to its "
                                    "end") from error


def _rgb(picture: Image.Image) -> Image.Image:
    return picture.convert("RGB")
