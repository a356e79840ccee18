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

from ..config import OnStep, ResNetConfig, VisionConfig
from ..device import budget_bytes, sent
from ..networks.clip import CLIP
from .preprocess import normalise, squares

ReadSquare = Callable[[str | PathLike, int, str], Tensor]  # path, size_px, resize -> uint8 [3, size_px, size_px]
MOST_AT_ONCE = 512  # pictures, however much memory there is: until the next pass can be called off
_CPU_TOKENS = 1600  # in one pass: 32 pictures of ViT-B/32
_LIVE = 14  # widths of activations that a token takes at most: the perceptron's inner ones twice, and a few
_RESNET_LIVE = 2  # of (width x pixels): the stem at half the size, and a block of four widths at a quarter


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
        return self.normalised(squares(image, self.size_px, self.resize))

    def normalised(self, square: Tensor) -> Tensor:
        """uint8 [B, 3, S, S] -> pixels as above. What goes over the bus are the bytes; colours are normalised there."""
        return normalise(sent(square, self.device), self.mean, self.std).to(self.dtype)

    def begun(self, pixels: Tensor) -> Tensor:
        """The features where they are made, without waiting for a card. A batch that its memory has no room for is done
        by halves. [B, 3, S, S] -> float32 [B, E], rows of length 1
        """
        try:
            with torch.no_grad():
                return F.normalize(self.encode(pixels).float(), dim=-1)
        except torch.cuda.OutOfMemoryError:  # torch.OutOfMemoryError from torch 2.5 on, for every device
            if len(pixels) == 1:
                raise
        half = len(pixels) // 2  # outside of the handler, whose error keeps the failed try's tensors alive
        return torch.cat([self.begun(pixels[:half]), self.begun(pixels[half:])])

    def features(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> float32 [B, E] on the CPU, rows of length 1"""
        return self.begun(pixels).cpu()


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


def image_encoder(
    model: CLIP,
    device: torch.device | str | None = None,
    *,
    dtype: torch.dtype | None = None,
    free_bytes: int | None = None,
) -> ImageEncoder:
    """The image half of one of our CLIPs as an ImageEncoder.

    `device` None: the weights' device. `dtype` is the activations' type; None: the type that the layers want. Only
    layers that cast their weights take another one. `free_bytes` of the device bound the memory of a pass; None: as
    much as the device reports.
    """
    config, vision = model.config, model.config.vision
    weight = model.visual_projection.weight
    device = weight.device if device is None else device
    dtype = dtype or model.activation_dtype
    tokens = vision.positions if isinstance(vision, VisionConfig) else None
    return ImageEncoder(
        vision.image_px,
        config.mean,
        config.std,
        config.resize,
        device,
        dtype,
        len(weight),
        pictures_at_once(device, tokens, picture_bytes(vision, dtype), free_bytes),
        model.image_features,
    )


def picture_bytes(vision: VisionConfig | ResNetConfig, dtype: torch.dtype) -> int:
    """What a picture takes of the memory at most, on its way through an encoder of these sizes."""
    if isinstance(vision, ResNetConfig):
        return _pixel_bytes(vision.image_px, dtype) + _RESNET_LIVE * vision.width * vision.image_px**2 * dtype.itemsize
    return transformer_bytes(vision.image_px, vision.positions, vision.width, dtype)


def transformer_bytes(image_px: int, tokens: int, width: int, dtype: torch.dtype) -> int:
    """The same, for a vision transformer of so many tokens and widths."""
    return _pixel_bytes(image_px, dtype) + _LIVE * tokens * width * dtype.itemsize


def _pixel_bytes(image_px: int, dtype: torch.dtype) -> int:
    """As bytes, as float32 twice while they are normalised, and as what the encoder wants."""
    return 3 * image_px**2 * (1 + 4 + 4 + dtype.itemsize)


def pictures_at_once(
    device: torch.device | str, tokens: int | None, each_bytes: int = 0, free_bytes: int | None = None
) -> int:
    """How many are worth while: on a card as many as its memory has room for, each with so many bytes; on a CPU so many
    that matrix products are large, and no more, so that a large model's passes are short and can be stopped between.
    `tokens` are a picture's; None: it has none (a ResNet). `free_bytes` None: as the device says.
    """
    if torch.device(device).type != "cpu":
        return max(1, min(MOST_AT_ONCE, budget_bytes(device, free_bytes) // max(1, each_bytes)))
    return 8 if tokens is None else max(1, min(32, _CPU_TOKENS // tokens))


def lowered(encoder: ImageEncoder, batch: int) -> str | None:
    """That fewer pictures than asked for are encoded at a time, in a sentence; None where it is not so on a card. (A
    CPU is no quicker with more.)
    """
    if batch <= encoder.at_once or torch.device(encoder.device).type == "cpu":
        return None
    why = f"{MOST_AT_ONCE} are the most" if encoder.at_once == MOST_AT_ONCE else "no more fit into the free memory"
    return f"{batch} pictures at a time were asked for, and {encoder.at_once} are encoded at a time: {why}"


def image_features(
    model: CLIP | ImageEncoder,
    image: Tensor,
    *,
    device: torch.device | str | None = None,
    batch: int | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """The features of a batch of pictures. `on_step(done, total)` is told after each `batch` (smaller ones where that
    is too much; None: as many as are worth while), and may raise to stop. A card is waited for once, at the end.

    [B, H, W, 3 or 4] in 0..1 -> float32 [B, E] on the CPU, rows of length 1
    """
    encoder = model if isinstance(model, ImageEncoder) else image_encoder(model, device)
    rows, done = [], 0
    for pictures in image.split(min(batch or encoder.at_once, encoder.at_once)):
        rows.append(encoder.begun(encoder.pixels(pictures)))
        done += len(pictures)
        if on_step is not None:
            on_step(done, len(image))
    return (torch.cat(rows) if len(rows) > 1 else rows[0]).cpu()


def file_features(
    model: CLIP | ImageEncoder,
    paths: Sequence[str | PathLike],
    read: ReadSquare,
    *,
    device: torch.device | str | None = None,
    batch: int = 32,
    workers: int | None = None,
    on_step: OnStep | None = None,
) -> Iterator[FileFeatures]:
    """The features of picture files, `batch` (or fewer, where that is too much) at a time and in their order. `read`
    (`files.pictures.read_square`) runs in `workers` threads: while the encoder runs on another device, two batches
    ahead, and a batch is waited for when the next one has been sent; else by turns with it, as threads that share the
    CPU with matrix products only hold them up. A file for which it raises ValueError or OSError is named in `unread`.
    `on_step(done, total)` is told after each batch, and may raise to stop.
    """
    encoder = model if isinstance(model, ImageEncoder) else image_encoder(model, device)
    batch = min(batch, encoder.at_once)
    stretches = [range(start, min(start + batch, len(paths))) for start in range(0, len(paths), batch)]
    apart = torch.device(encoder.device).type != "cpu"
    read_ahead, begun_ahead = (3, 1) if apart else (1, 0)
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="read pictures")
    asked: deque[list[Future]] = deque()
    begun: deque[FileFeatures] = deque()
    try:
        for number, places in enumerate(stretches):
            for soon in stretches[number + len(asked) : number + read_ahead]:
                asked.append([pool.submit(read, paths[place], encoder.size_px, encoder.resize) for place in soon])
            begun.append(_begun(encoder, places, asked.popleft()))
            while len(begun) > (begun_ahead if places.stop < len(paths) else 0):
                done = begun.popleft()
                yield FileFeatures(done.places, done.features.cpu(), done.unread)
                if on_step is not None:
                    on_step(done.places.stop, len(paths))
    finally:
        pool.shutdown(cancel_futures=True)


def _begun(encoder: ImageEncoder, places: range, asked: Sequence[Future]) -> FileFeatures:
    """A stretch on its way: its features are still where they are made."""
    read, unread = [], {}
    for place, future in zip(places, asked):
        try:
            read.append(future.result())
        except (ValueError, OSError) as error:
            unread[place] = str(error)
    if not read:
        return FileFeatures(places, torch.empty(0, encoder.embed), unread)
    return FileFeatures(places, encoder.begun(encoder.normalised(torch.stack(read))), unread)
