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

from .config import OPENAI_MEAN, OPENAI_STD, OnStep, VisionConfig
from .model import CLIP
from .preprocess import normalise, preprocess
from .vision import CLIPVision

ReadSquare = Callable[[str | PathLike, int, str], Tensor]  # path, size_px, resize -> uint8 [3, size_px, size_px]
_CPU_TOKENS = 1600  # in one pass: 32 pictures of ViT-B/32


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
    at_once: int  # pictures in one pass, at most
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
    vision = model.config.vision if whole else model.config
    if not whole and not model.has_projection:
        raise ValueError(
            "an image encoder with a projection into the space shared with texts was expected, but this one came "
            "without a visual_projection; load one that has it"
        )
    weight = model.visual_projection.weight
    device = weight.device if device is None else device
    return ImageEncoder(
        vision.image_px,
        model.config.mean if whole else OPENAI_MEAN,
        model.config.std if whole else OPENAI_STD,
        model.config.resize if whole else "crop",
        device,
        model.activation_dtype,
        len(weight),
        pictures_at_once(device, vision.positions if isinstance(vision, VisionConfig) else None),
        model.image_features,
    )


def pictures_at_once(device: torch.device | str, tokens: int | None) -> int:
    """How many are worth while: 32 on a GPU; on a CPU so many that matrix products are large, and no more, so that a
    large model's passes are short and can be stopped between. `tokens` are a picture's; None: it has none (a ResNet).
    """
    if torch.device(device).type != "cpu":
        return 32
    return 8 if tokens is None else max(1, min(32, _CPU_TOKENS // tokens))


def image_features(
    model: CLIP | CLIPVision | ImageEncoder,
    image: Tensor,
    *,
    device: torch.device | str | None = None,
    batch: int = 32,
    on_step: OnStep | None = None,
) -> Tensor:
    """The features of a batch of pictures. `on_step(done, total)` is told after each `batch` (smaller
    ones where that is much work), and may raise to stop.

    [B, H, W, 3 or 4] in 0..1 -> float32 [B, E] on the CPU, rows of length 1
    """
    encoder = model if isinstance(model, ImageEncoder) else image_encoder(model, device)
    rows, done = [], 0
    for pictures in image.split(min(batch, encoder.at_once)):
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
    """The features of picture files, `batch` (or fewer, where that is much work) at a time and in their order. `read`
    (`files.pictures.read_square`) runs in `workers` threads: while the encoder runs on another device, two batches
    ahead; else by turns with it, as threads that share the CPU with matrix products only hold them up. A file for which
    it raises ValueError or OSError is named in `unread`. `on_step(done, total)` is told after each batch, and may raise
    to stop.
    """
    encoder = model if isinstance(model, ImageEncoder) else image_encoder(model, device)
    batch = min(batch, encoder.at_once)
    stretches = [range(start, min(start + batch, len(paths))) for start in range(0, len(paths), batch)]
    ahead = 1 if torch.device(encoder.device).type == "cpu" else 3
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="read pictures")
    asked: deque[list[Future]] = deque()
    try:
        for number, places in enumerate(stretches):
            for soon in stretches[number + len(asked) : number + ahead]:
                asked.append([pool.submit(read, paths[place], encoder.size_px, encoder.resize) for place in soon])
            yield _encoded(encoder, places, asked.popleft())
            if on_step is not None:
                on_step(places.stop, len(paths))
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
