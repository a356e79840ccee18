"""Pictures, or files of pictures, -> features in the space shared with texts: rows of length 1, batch by batch.

What encodes them is an `ImageEncoder`, so that a host's own image encoders go the same way as ours. Files are read by
a function passed in, in threads beside the encoder.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import OPENAI_MEAN, OPENAI_STD
from .model import CLIP
from .preprocess import normalise, preprocess
from .vision import CLIPVision

ReadSquare = Callable[[str | PathLike, int, str], Tensor]  # path, size_px, resize -> uint8 [3, size_px, size_px]
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class ImageEncoder:
    """An image encoder from outside: the pictures it wants, and what makes features of them."""

    size_px: int
    mean: Sequence[float]  # of each colour in 0..1
    std: Sequence[float]
    resize: str  # see `preprocess`
    device: torch.device | str
    dtype: torch.dtype  # of the pixels
    embed: int  # dimensions of the space shared with texts
    encode: Callable[[Tensor], Tensor]  # [B, 3, size_px, size_px] -> projected [B, E], of any length

    def pixels(self, image: Tensor) -> Tensor:
        """[B, H, W, 3 or 4] in 0..1 -> [B, 3, S, S], normalised, where the encoder wants them"""
        square = preprocess(image, self.size_px, self.mean, self.std, resize=self.resize)
        return square.to(self.device, self.dtype)

    def features(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> float32 [B, E] on the CPU, rows of length 1"""
        with torch.no_grad():
            return F.normalize(self.encode(pixels).float(), dim=-1).cpu()


@dataclass(frozen=True)
class FileFeatures:
    """A stretch of the files given."""

    places: range  # which of the files
    features: Tensor  # [n, E], a row for each of them that could be read, in their order
    unread: Mapping[int, str]  # place: why that one could not be read

    @property
    def read(self) -> list[int]:
        """The place of each row of features."""
        return [place for place in self.places if place not in self.unread]


def image_encoder(model: CLIP | CLIPVision, device: torch.device | str | None = None) -> ImageEncoder:
    """One of our networks as an ImageEncoder. `device` None: where its weights are.

    Raises:
        ValueError: it has no projection into the space shared with texts.
    """
    whole = isinstance(model, CLIP)
    if not whole and not model.has_projection:
        raise ValueError(
            "an image encoder with a projection into the space shared with texts was expected, but this one came "
            "without a visual_projection; load one that has it"
        )
    weight = model.visual_projection.weight
    return ImageEncoder(
        model.config.vision.image_px if whole else model.config.image_px,
        model.config.mean if whole else OPENAI_MEAN,
        model.config.std if whole else OPENAI_STD,
        model.config.resize if whole else "crop",
        weight.device if device is None else device,
        model.activation_dtype,
        len(weight),
        model.image_features,
    )


def image_features(
    model: CLIP | CLIPVision | ImageEncoder,
    image: Tensor,
    *,
    device: torch.device | str | None = None,
    batch: int = 32,
    on_step: OnStep | None = None,
) -> Tensor:
    """The features of a batch of pictures. `on_step(done, total)` is told after each `batch`, and may raise to stop.

    [B, H, W, 3 or 4] in 0..1 -> float32 [B, E] on the CPU, rows of length 1
    """
    encoder = model if isinstance(model, ImageEncoder) else image_encoder(model, device)
    rows, done = [], 0
    for pictures in image.split(batch):
        rows.append(encoder.features(encoder.pixels(pictures)))
        done += len(pictures)
        if on_step is not None:
            on_step(done, len(image))
    return torch.cat(rows)


def file_features(
    model: CLIP | CLIPVision | ImageEncoder,
    paths: Sequence[str | PathLike],
    read: ReadSquare,
    *,
    device: torch.device | str | None = None,
    batch: int = 32,
    workers: int | None = None,
    on_step: OnStep | None = None,
) -> Iterator[FileFeatures]:
    """The features of picture files, `batch` at a time and in their order. `read` (`files.pictures.read_square`) runs
    in `workers` threads, at most three batches ahead. A file for which it raises ValueError or OSError is named in
    `unread`. `on_step(done, total)` is told after each batch, and may raise to stop.
    """
    encoder = model if isinstance(model, ImageEncoder) else image_encoder(model, device)
    stretches = [range(start, min(start + batch, len(paths))) for start in range(0, len(paths), batch)]
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="read pictures")

    def ask(places: range) -> list[Future]:
        return [pool.submit(read, paths[place], encoder.size_px, encoder.resize) for place in places]

    try:
        asked = deque((places, ask(places)) for places in stretches[:2])
        for number in range(len(stretches)):
            if number + 2 < len(stretches):
                asked.append((stretches[number + 2], ask(stretches[number + 2])))
            yield _encoded(encoder, *asked.popleft())
            if on_step is not None:
                on_step(stretches[number].stop, len(paths))
    finally:
        pool.shutdown(cancel_futures=True)


def _encoded(encoder: ImageEncoder, places: range, asked: Sequence[Future]) -> FileFeatures:
    squares, unread = [], {}
    for place, future in zip(places, asked):
        try:
            squares.append(future.result())
        except (ValueError, OSError) as error:
            unread[place] = str(error)
    if not squares:
        return FileFeatures(places, torch.empty(0, encoder.embed), unread)
    pixels = normalise(torch.stack(squares).to(encoder.device), encoder.mean, encoder.std)
    return FileFeatures(places, encoder.features(pixels.to(encoder.dtype)), unread)
