"""Pictures: read as ComfyUI's LoadImage reads them, written as its SaveImage writes and numbers them.

Facts from ComfyUI 0.3.64, nodes.py (LoadImage, SaveImage) and folder_paths.py (get_save_image_path). Where the host
turns a 16-bit grey picture white (it divides by 255 twice over), this divides by 65535.
"""

import os
import re
import time
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence, PngImagePlugin
from torch import Tensor

from .decoding.opening import Upright, check_pixels, read_picture
from .errors import FileFormatError
from .writing import write_new, write_whole

_COMPRESS_LEVEL, _PREVIEW_LEVEL = 4, 1  # ComfyUI's, of SaveImage and of PreviewImage
_FIRST_FRAME_ONLY = ("MPO",)  # a camera's photograph with previews of itself


def read_image(path: str | PathLike) -> tuple[Tensor, Tensor]:
    """The picture turned upright by its EXIF mark, and its transparency: mask = 1 - alpha, zeros without alpha.

    Frames of an animation are rows of the batch; frames of another size than the first are left out, as in ComfyUI.

    -> image [N, H, W, 3] in 0..1, mask [N, H, W] in 0..1

    Raises:
        FileFormatError: missing, empty, no picture, cut short, or more than MAX_PIXELS pixels.
    """
    path = Path(path)
    with _quiet():
        images, masks = read_picture(path, partial(_frames, path))
    return torch.cat(images), torch.cat(masks)


def _frames(path: Path, picture: Image.Image, upright: Upright) -> tuple[list[Tensor], list[Tensor]]:
    images: list[Tensor] = []
    masks: list[Tensor] = []
    pixels = 0
    for frame in ImageSequence.Iterator(picture):
        pixels += frame.width * frame.height
        check_pixels(path, pixels)
        image, mask = _pixels(upright(frame))
        if not images or image.shape == images[0].shape:
            images.append(image)
            masks.append(mask)
        if picture.format in _FIRST_FRAME_ONLY:
            break
    if not images:  # a kind that does not know its one picture as a frame (SPIDER)
        check_pixels(path, picture.width * picture.height)
        image, mask = _pixels(upright(picture))
        return [image], [mask]
    return images, masks


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def write_png(path: str | PathLike, image: Tensor, text: dict[str, str], *, preview: bool = False) -> None:
    """Write one picture [H, W, 3] in 0..1 with its texts, whole or not at all; cut to 8 bits as ComfyUI does.

    A `preview` is looked at once: it is written quickly, and not forced onto the disk.

    Raises:
        ValueError: no pixels, another shape, or NaN. FileFormatError: the disk refused.
    """
    write_whole(path, _png(image, text, Path(path).name, preview), lasting=not preview)


def write_next_png(
    folder: str | PathLike, prefix: str, image: Tensor, text: dict[str, str], *, preview: bool = False
) -> Path:
    """Write a picture as `write_png` does, under the name that `next_path` gives; of several programs that write
    into the folder at once, each gets names of its own.

    Raises:
        ValueError: as next_path and write_png. FileFormatError: the disk refused.
    """
    write = _png(image, text, prefix, preview)
    height_px, width_px = image.shape[:2]
    names = iter(lambda: next_path(folder, prefix, ".png", width_px=width_px, height_px=height_px), None)
    return write_new(names, write, lasting=not preview)


def _png(image: Tensor, text: dict[str, str], name: str, preview: bool) -> Callable[..., object]:
    """What writes the picture into an open file."""
    if image.ndim != 3 or image.shape[-1] != 3 or not image.numel():
        raise ValueError(f"a picture [height, width, 3] was expected, and this is {list(image.shape)}")
    values = image.detach().float().cpu()
    if values.isnan().any():
        raise ValueError(f"{name}: the picture has NaN pixels: something before it went wrong")
    picture = Image.fromarray((255.0 * values).clamp_(0, 255).to(torch.uint8).numpy())
    chunks = PngImagePlugin.PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)
    level = _PREVIEW_LEVEL if preview else _COMPRESS_LEVEL
    return partial(picture.save, format="PNG", pnginfo=chunks, compress_level=level)


def jpeg_address(image: Tensor, longest_px: int = 512) -> str:
    """The first picture of a batch as a small JPEG in a text, as headers of weights hold one: data:image/jpeg;base64.

    [B, H, W, 3 or 4] in 0..1

    Raises:
        ValueError: no picture, or NaN pixels.
    """
    if image.ndim != 4 or image.shape[-1] not in (3, 4) or not image.numel():
        raise ValueError(f"a picture [batch, height, width, 3] was expected, and this is {list(image.shape)}")
    values = image[0, ..., :3].detach().float().cpu()
    if values.isnan().any():
        raise ValueError("the picture has NaN pixels: something before it went wrong")
    picture = Image.fromarray((255.0 * values).clamp_(0, 255).to(torch.uint8).numpy())
    picture.thumbnail((longest_px, longest_px))
    written = BytesIO()
    picture.save(written, "JPEG", quality=85)
    return address_of(written.getvalue())


def address_of(jpeg: bytes) -> str:
    """The bytes of a JPEG as a text."""
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode('ascii')}"


def next_path(folder: str | PathLike, prefix: str, suffix: str, *, width_px: int = 0, height_px: int = 0) -> Path:
    """The next free `PREFIX_00001_SUFFIX` in the folder, counted as ComfyUI counts; makes the folder.

    The prefix may begin with sub folders and may have %width% %height% %year% %month% %day% %hour% %minute% %second%.

    Raises:
        ValueError: the prefix leads out of the folder, or names no file. FileFormatError: the disk refused.
    """
    folder = Path(os.path.abspath(folder))
    if not prefix.isascii() and re.search("[\ud800-\udfff]", prefix):
        raise ValueError(
            f"the prefix {prefix!r} has half a character in it, which no file name can have; write it anew"
        )
    written, prefix = prefix, os.path.normpath(_filled(prefix, width_px, height_px).replace("\\", "/"))
    place = Path(os.path.abspath(folder / prefix)).parent
    name = os.path.basename(prefix)
    if name in ("", "."):
        raise ValueError(
            f"a name for the files was expected, but the prefix {written!r} names none; write one, such as ComfyUI or "
            "folder/ComfyUI"
        )
    inside = os.path.realpath(place)
    if (
        name == ".."
        or "\0" in prefix
        or os.path.commonpath([os.path.realpath(folder), inside]) != os.path.realpath(folder)
    ):
        raise ValueError(f"the prefix {written!r} leads out of the folder {folder.name}: saving there is not allowed")
    try:
        place.mkdir(parents=True, exist_ok=True)
        counts = [_count(file, name) for file in os.listdir(place)]
    except OSError as error:
        raise FileFormatError(place, f"nothing can be saved there: {error.strerror or error}") from error
    return place / f"{name}_{max(counts, default=0) + 1:05}_{suffix}"


def _pixels(frame: Image.Image) -> tuple[Tensor, Tensor]:
    """One frame -> [1, H, W, 3] and [1, H, W]."""
    if frame.mode.startswith("I") or frame.mode == "F":
        grey = np.array(frame).astype(np.float32) / (1.0 if frame.mode == "F" else 65535.0)
        image = np.repeat(np.clip(np.nan_to_num(grey), 0, 1)[..., None], 3, axis=2)
    else:
        image = np.array(frame.convert("RGB")).astype(np.float32) / 255.0
    if "A" in frame.getbands():
        alpha = frame.getchannel("A")
    elif frame.mode == "P" and "transparency" in frame.info:
        alpha = frame.convert("RGBA").getchannel("A")
    else:
        return torch.from_numpy(image)[None], torch.zeros(1, frame.height, frame.width)
    mask = 1.0 - np.array(alpha).astype(np.float32) / 255.0
    return torch.from_numpy(image)[None], torch.from_numpy(mask)[None]


def _filled(prefix: str, width_px: int, height_px: int) -> str:
    """The prefix with ComfyUI's server-side tokens replaced."""
    now = time.localtime()
    values = {
        "width": f"{width_px}",
        "height": f"{height_px}",
        "year": f"{now.tm_year}",
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    for token, value in values.items():
        prefix = prefix.replace(f"%{token}%", value)
    return prefix


def _count(file: str, name: str) -> int:
    """The number in NAME_00012_.png; 0 for any other file."""
    if os.path.normcase(file[: len(name) + 1]) != os.path.normcase(name + "_"):
        return 0
    digits = file[len(name) + 1 :].split("_")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else 0
