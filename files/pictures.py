"""Picture files as an image encoder wants them: 8-bit colours, and the square cut out of them.

Colours are those of ComfyUI's LoadImage (see `images.py`): the first frame, turned upright by its EXIF mark; but what
is transparent is laid over a ground: without it two drawings on a transparent page are the same black page. JPEGs are
decoded whole: libjpeg's quicker scaled decoding gives other pixels.

The square has the pixels of openai/CLIP's `_transform` (torchvision's Resize and CenterCrop on a Pillow picture) as
every Pillow before 13 makes them, horizontal pass first; `clip_core/features/preprocess.py` makes the same of tensors.
"""

from collections.abc import Callable
from io import BytesIO
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .decoding.ground import GROUNDS, WHITE, on_ground
from .decoding.opening import Upright, check_pixels, read_picture

_BICUBIC = Image.Resampling.BICUBIC
_STRIP = 16  # times as long as wide: what Pillow would make of the whole is far more than the square


def read_rgb(
    path: str | PathLike,
    ground: str = WHITE,
    on_transparent: Callable[[Path], object] | None = None,
    *,
    data: bytes | None = None,
) -> Tensor:
    """Read a picture in 8-bit colours, its transparency laid over a ground of `GROUNDS`, and tell `on_transparent` of
    one that has some. `data`: the picture itself, which came out of the file. -> uint8 [H, W, 3]

    Raises:
        FileFormatError: missing, empty, no picture, cut short, or more than MAX_PIXELS pixels.
    """
    picture, is_transparent = _read(Path(path), ground, data)
    if is_transparent and on_transparent is not None:
        on_transparent(Path(path))
    return torch.from_numpy(np.array(picture))


def read_square(
    path: str | PathLike,
    size_px: int,
    resize: str = "crop",
    *,
    ground: str = WHITE,
    on_transparent: Callable[[Path], object] | None = None,
) -> Tensor:
    """Read the square that an image encoder wants: "crop" scales the shorter side to `size_px` and cuts out the
    centre; "squash" scales both sides; "pad" scales the longer side and fills the rest with the ground.

    Transparency is laid over the ground, one of `GROUNDS`, and `on_transparent` is told of a picture that has some.

    -> uint8 [3, size_px, size_px]; raises as `read_rgb`
    """
    path = Path(path)
    picture, is_transparent = _read(path, ground)
    if is_transparent and on_transparent is not None:
        on_transparent(path)
    width, height = picture.size
    if resize == "pad":
        return torch.from_numpy(_padded(picture, size_px, GROUNDS[ground]))
    if resize == "squash":
        wide = tall = size_px
    elif width <= height:
        wide, tall = size_px, int(size_px * height / width)
    else:
        wide, tall = int(size_px * width / height), size_px
    if max(wide, tall) > _STRIP * size_px:
        return torch.from_numpy(_strip(picture, wide, tall, size_px))
    left, top = _centre(wide, size_px), _centre(tall, size_px)
    lines = picture.resize((wide, height), _BICUBIC)  # by itself, so that Pillow 13 has no order to choose
    lines = lines.crop((left, 0, left + size_px, height)) if wide > size_px else lines
    square = lines.resize((size_px, tall), _BICUBIC)
    square = square.crop((0, top, size_px, top + size_px)) if tall > size_px else square
    return torch.from_numpy(np.ascontiguousarray(np.array(square).transpose(2, 0, 1)))  # in this thread, not in all


def _padded(picture: Image.Image, size_px: int, colour: tuple[int, int, int]) -> np.ndarray:
    """The whole picture in the middle of a square. -> uint8 [3, S, S]"""
    wide, tall = (max(1, round(size_px * side / max(picture.size))) for side in picture.size)
    whole = picture.resize((wide, picture.height), _BICUBIC).resize((wide, tall), _BICUBIC)
    square = Image.new("RGB", (size_px, size_px), colour)
    square.paste(whole, ((size_px - wide) // 2, (size_px - tall) // 2))
    return np.ascontiguousarray(np.array(square).transpose(2, 0, 1))


def _read(path: Path, ground: str, data: bytes | None = None) -> tuple[Image.Image, bool]:
    def use(picture: Image.Image, upright: Upright) -> tuple[Image.Image, bool]:
        check_pixels(path, picture.width * picture.height)
        return on_ground(upright(picture), ground)

    return read_picture(path, use, data)


def _centre(length: int, size_px: int) -> int:
    return int(round((length - size_px) / 2.0))  # half to even, as torchvision does


def _strip(picture: Image.Image, wide: int, tall: int, size_px: int) -> np.ndarray:
    """Both passes for the square alone, from the part of the picture that it is made of. -> uint8 [3, S, S]"""
    left, across = _weights(picture.width, wide, size_px)
    top, down = _weights(picture.height, tall, size_px)
    part = picture.crop((left, top, left + across.shape[1], top + down.shape[1]))
    return np.stack([_fixed(down @ _fixed(np.array(colour, np.float64) @ across.T)) for colour in part.split()]).astype(
        np.uint8
    )


def _weights(length: int, new: int, size_px: int) -> tuple[int, np.ndarray]:
    """Pillow's coefficients (src/libImaging/Resample.c; cubic, a = -0.5), times 2**22, for the centre `size_px` pixels
    of a line of `length` pixels made `new` long: where the stretch that they use begins, and [size_px, its length].
    """
    scale = length / new
    stretch = max(scale, 1.0)
    centres = (_centre(new, size_px) + np.arange(size_px) + 0.5) * scale
    firsts = np.maximum(0, (centres - 2.0 * stretch + 0.5).astype(int))
    lasts = np.minimum(length, (centres + 2.0 * stretch + 0.5).astype(int))
    places = np.arange(firsts[0], lasts[-1])
    x = np.abs((places - centres[:, None] + 0.5) * (1.0 / stretch))
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    weights *= (places >= firsts[:, None]) & (places < lasts[:, None])
    weights /= np.cumsum(weights, 1)[:, -1:]  # summed in Pillow's order
    return int(firsts[0]), np.trunc(weights * 2.0**22 + np.copysign(0.5, weights))


def _fixed(sums: np.ndarray) -> np.ndarray:
    return np.clip(np.floor((sums + 2.0**21) * 2.0**-22), 0, 255)


def small_jpeg(path: str | PathLike, longest_px: int, data: bytes | None = None) -> bytes:
    """A picture as a small JPEG, for looking at: the file's, or that in `data`, which came out of the file.

    Raises:
        FileFormatError: missing, empty, no picture, cut short, or more than MAX_PIXELS pixels.
    """
    path = Path(path)

    def use(picture: Image.Image, upright: Upright) -> bytes:
        check_pixels(path, picture.width * picture.height)
        picture.draft("RGB", (2 * longest_px, 2 * longest_px))  # of a JPEG only as much as is needed
        small, _ = on_ground(upright(picture))
        small.thumbnail((longest_px, longest_px))
        written = BytesIO()
        small.save(written, "JPEG", quality=82)
        return written.getvalue()

    return read_picture(path, use, data)
