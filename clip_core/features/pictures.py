"""Pictures, or files of pictures -> features in the space shared with texts, rows of length 1, batch by batch.

An `ImageEncoder` encodes them, which wraps one of our networks or a host's own. Files are read by a function passed in,
in threads beside the encoder.
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

ReadSquare = Callable[[str | PathLike[str], int, str], Tensor]  # path, size_px, resize -> uint8 [3, size_px, size_px]
MOST_AT_ONCE = 512  # pictures in one pass, however large the memory: a run can be stopped between passes
_CPU_TOKENS = 1600  # in one pass on a CPU: 32 pictures of ViT-B/32
_LIVE = 14  # peak activations of a token, in widths: the perceptron's inner width twice, and a few more
_RESNET_LIVE = (
    2  # peak activations, in (width x pixels): the stem at half size, and a block of four widths at a quarter
)


@dataclass(frozen=True)
class ImageEncoder:
    """An image encoder: the pictures that it takes, and a function that encodes them."""

    size_px: int
    mean: Sequence[float]  # of each colour in 0..1
    std: Sequence[float]
    resize: str  # see `preprocess`
    device: torch.device | str
    dtype: torch.dtype  # of the pixels
    embed: int  # dimensions of the space shared with texts
    at_once: int  # most pictures in one pass
    encode: Callable[[Tensor], Tensor]  # [B, 3, size_px, size_px] -> projected [B, E], of any length
    ground: float = 1.0  # grey level beside a picture that is padded

    def pixels(self, image: Tensor) -> Tensor:
        """Prepare pictures. [B, H, W, 3 or 4] in 0..1 -> [B, 3, S, S], normalised, on the encoder's device"""
        return self.normalise(squares(image, self.size_px, self.resize, self.ground))

    def normalise(self, square: Tensor) -> Tensor:
        """Send bytes to the device, and normalise their colours there. uint8 [B, 3, S, S] -> [B, 3, S, S]"""
        return normalise(sent(square, self.device), self.mean, self.std).to(self.dtype)

    def encode_on_device(self, pixels: Tensor) -> Tensor:
        """Encode a batch, and leave the features on the device, without waiting for a card. A batch too large for its
        memory is split in halves.

        [B, 3, S, S] -> float32 [B, E], rows of length 1
        """
        try:
            with torch.no_grad():
                return F.normalize(self.encode(pixels).float(), dim=-1)
        except torch.cuda.OutOfMemoryError:  # torch.OutOfMemoryError from torch 2.5 on, for every device
            if len(pixels) == 1:
                raise
        half = len(pixels) // 2  # behind the handler, whose error keeps the failed batch's tensors alive
        return torch.cat([self.encode_on_device(pixels[:half]), self.encode_on_device(pixels[half:])])

    def features(self, pixels: Tensor) -> Tensor:
        """Encode a batch. [B, 3, S, S] -> float32 [B, E] on the CPU, rows of length 1"""
        return self.encode_on_device(pixels).cpu()


@dataclass(frozen=True)
class FileFeatures:
    """The features of one batch of files."""

    places: range  # the numbers of the files
    features: Tensor  # [n, E], one row for each file that was read, in their order
    unread: Mapping[int, str]  # number of a file that could not be read -> the reason

    @property
    def read(self) -> list[int]:
        """The number of the file of each row."""
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
    device = next(model.parameters()).device if device is None else device
    dtype = dtype or model.activation_dtype
    tokens = vision.positions if isinstance(vision, VisionConfig) else None
    return ImageEncoder(
        vision.image_px,
        config.mean,
        config.std,
        config.resize,
        device,
        dtype,
        vision.embed,
        pictures_at_once(device, tokens, picture_bytes(vision, dtype), free_bytes),
        model.image_features,
    )


def picture_bytes(vision: VisionConfig | ResNetConfig, dtype: torch.dtype) -> int:
    """The peak memory of a picture in an encoder of these sizes."""
    if isinstance(vision, ResNetConfig):
        return _pixel_bytes(vision.image_px, dtype) + _RESNET_LIVE * vision.width * vision.image_px**2 * dtype.itemsize
    return transformer_bytes(vision.image_px, vision.positions, vision.width, dtype)


def transformer_bytes(image_px: int, tokens: int, width: int, dtype: torch.dtype) -> int:
    """The peak memory of a picture in a vision transformer with so many tokens of this width."""
    return _pixel_bytes(image_px, dtype) + _LIVE * tokens * width * dtype.itemsize


def _pixel_bytes(image_px: int, dtype: torch.dtype) -> int:
    """The memory of a picture's pixels: bytes, float32 twice while they are normalised, and the encoder's type."""
    return 3 * image_px**2 * (1 + 4 + 4 + dtype.itemsize)


def pictures_at_once(
    device: torch.device | str, tokens: int | None, each_bytes: int = 0, free_bytes: int | None = None
) -> int:
    """The number of pictures in one pass. On a card as many as fit into its memory, with `each_bytes` for one; on a CPU
    as many as make matrix products large, and no more: a large model's passes stay short, and a run can be stopped
    between them. `tokens` of a picture; None: a ResNet has none. `free_bytes` None: as the device reports.
    """
    if torch.device(device).type != "cpu":
        return max(1, min(MOST_AT_ONCE, budget_bytes(device, free_bytes) // max(1, each_bytes)))
    return 8 if tokens is None else max(1, min(32, _CPU_TOKENS // tokens))


def lowered(encoder: ImageEncoder, batch: int) -> str | None:
    """A note on a card that encodes fewer pictures at a time than asked for; None if it does not. A CPU gets no note,
    as it is no faster with more.
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
    """Encode pictures, at least one. A card is waited for once, at the end.

    Args:
        model: a CLIP, or an encoder from `image_encoder` or a host.
        image: [B, H, W, 3 or 4] in 0..1, of any size.
        device: computes; None: the weights' device.
        batch: pictures in one pass, or fewer if the memory is too small; None: the encoder's own number.
        on_step: called with (pictures done, pictures in all) after each pass; may raise to stop.

    Returns:
        features [B, E], rows of length 1, float32 on the CPU.

    Raises:
        ValueError: the pictures have no pixels, or no colours.

    >>> from clip_vae_lora.clip_core.config import CLIPConfig, TextConfig
    >>> config = CLIPConfig(TextConfig(64, 2, 1, 128, 32), VisionConfig(64, 2, 1, 128, 8, 32, 32))
    >>> image_features(CLIP(config), torch.rand(3, 48, 64, 3)).shape
    torch.Size([3, 32])
    """
    encoder = model if isinstance(model, ImageEncoder) else image_encoder(model, device)
    rows, done = [], 0
    for pictures in image.split(min(batch or encoder.at_once, encoder.at_once)):
        rows.append(encoder.encode_on_device(encoder.pixels(pictures)))
        done += len(pictures)
        if on_step is not None:
            on_step(done, len(image))
    return (torch.cat(rows) if len(rows) > 1 else rows[0]).cpu()


def file_features(
    model: CLIP | ImageEncoder,
    paths: Sequence[str | PathLike[str]],
    read: ReadSquare,
    *,
    device: torch.device | str | None = None,
    batch: int = 32,
    workers: int | None = None,
    on_step: OnStep | None = None,
) -> Iterator[FileFeatures]:
    """Encode picture files, in their order, `batch` at a time, or fewer if the memory is too small.

    `read` (`files.pictures.read_square`) runs in `workers` threads. With an encoder on a card they read two batches
    ahead, and a batch is fetched after the next one has been sent. With an encoder on the CPU reading and encoding take
    turns, as threads would slow its matrix products down. A file for which `read` raises ValueError or OSError is named
    in `unread`. `on_step(done, total)` is called after each batch, and may raise to stop.
    """
    encoder = model if isinstance(model, ImageEncoder) else image_encoder(model, device)
    batch = min(batch, encoder.at_once)
    batches = [range(start, min(start + batch, len(paths))) for start in range(0, len(paths), batch)]
    on_card = torch.device(encoder.device).type != "cpu"
    read_ahead, sent_ahead = (3, 1) if on_card else (1, 0)
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="read pictures")
    reading: deque[list[Future[Tensor]]] = deque()
    sent_batches: deque[FileFeatures] = deque()
    try:
        for number, places in enumerate(batches):
            # Have the next batches read, encode this one, and fetch those that are further behind than `sent_ahead`.
            for soon in batches[number + len(reading) : number + read_ahead]:
                reading.append([pool.submit(read, paths[place], encoder.size_px, encoder.resize) for place in soon])
            sent_batches.append(_encode_files(encoder, places, reading.popleft()))
            while len(sent_batches) > (sent_ahead if places.stop < len(paths) else 0):
                done = sent_batches.popleft()
                yield FileFeatures(done.places, done.features.cpu(), done.unread)
                if on_step is not None:
                    on_step(done.places.stop, len(paths))
    finally:
        pool.shutdown(cancel_futures=True)


def _encode_files(encoder: ImageEncoder, places: range, reading: Sequence[Future[Tensor]]) -> FileFeatures:
    """Encode a batch of files as soon as it is read; its features stay on the device."""
    read, unread = [], {}
    for place, future in zip(places, reading):
        try:
            read.append(future.result())
        except (ValueError, OSError) as error:
            unread[place] = str(error)
    if not read:
        return FileFeatures(places, torch.empty(0, encoder.embed), unread)
    return FileFeatures(places, encoder.encode_on_device(encoder.normalise(torch.stack(read))), unread)
