"""The pictures of a VAE's training: read once, kept in 8 bits while there is room, and the parts that a step sees."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from ...files.captioned.folder import captioned_folder
from ...files.errors import FileFormatError
from ...files.pictures import read_rgb
from ...vae_core.channels import with_channels
from ..loop import OnStep, TrainingError
from ..record.digest import digest_of

_ROOM_BYTES = 2 << 30  # of pictures that stay in memory; of more, each is read again when it is seen


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture. read: its pixels, [H, W, C], in 8 bits or in 0..1. repeats: how often it is seen beside the others.
    digest: a name for its pixels.
    """

    name: str
    size: tuple[int, int]  # height and width in px
    read: Callable[[], Tensor]
    digest: str
    repeats: int = 1

    def whole(self, channels: int) -> Tensor:
        """The picture for a VAE with so many channels. -> [1, H, W, C] in 0..1"""
        return self.part((0, 0), self.size, channels)

    def part(self, place: tuple[int, int], size: tuple[int, int], channels: int) -> Tensor:
        """The part that begins at a place (top, left) and has a size (height, width). -> [1, h, w, C] in 0..1"""
        (top, left), (height, width) = place, size
        found = self.read()[None, top : top + height, left : left + width]
        return with_channels(found.float() / 255 if found.dtype == torch.uint8 else found, channels)


@dataclass(frozen=True)
class Gathered:
    """The pictures in the order of their names; unused: name -> why; flattened: those whose transparency was laid over
    white.
    """

    pictures: Sequence[Picture]
    unused: Mapping[str, str] = field(default_factory=dict)
    flattened: Sequence[str] = ()


def gather_folder(folder: Path, on_step: OnStep | None = None) -> Gathered:
    """Read the pictures of a folder and those in it, each once; a broken one costs itself and is named.

    Raises:
        FileFormatError: no folder, or no picture in it.
        TrainingError: none of its pictures can be read.
    """
    found = captioned_folder(folder)
    pictures: list[Picture] = []
    unused, flattened, kept_bytes = dict(found.unused), list[str](), 0
    for number, one in enumerate(found.pictures):
        name = _below(folder, one.path)
        if one.mask is not None:
            unused[_below(folder, one.mask)] = "a mask, which no VAE learns from"
        try:
            pixels = read_rgb(one.path, on_transparent=lambda path: flattened.append(_below(folder, path)))
        except FileFormatError as error:
            unused[name] = error.sentence
        else:
            kept_bytes += pixels.numel()
            read = _kept(pixels) if kept_bytes <= _ROOM_BYTES else _read_again(one.path, pixels.shape)
            size = (pixels.shape[0], pixels.shape[1])
            pictures.append(Picture(name, size, read, digest_of([pixels]), one.repeats))
        if on_step:
            on_step(number + 1, len(found.pictures))
    if not pictures:
        first = _below(folder, found.pictures[0].path)
        raise TrainingError(
            f"none of the pictures in {folder.name} can be used ({first}: {unused[first]}): choose others"
        )
    return Gathered(pictures, unused, flattened)


def _below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def gather_image(image: Tensor) -> Gathered:
    """The pictures of an IMAGE, as copies. [B, H, W, C] in 0..1"""
    with torch.inference_mode(False):
        rows = [one.detach().to("cpu", torch.float32, copy=True) for one in image]
    return Gathered(
        [
            Picture(f"image {number}", (one.shape[0], one.shape[1]), _kept(one), digest_of([one]))
            for number, one in enumerate(rows, 1)
        ]
    )


def _kept(pixels: Tensor) -> Callable[[], Tensor]:
    return lambda: pixels


def _read_again(path: Path, shape: Sequence[int]) -> Callable[[], Tensor]:
    def read() -> Tensor:
        pixels = read_rgb(path)
        if pixels.shape != shape:
            raise TrainingError(f"{path.name} has changed since the training began: leave the pictures as they are")
        return pixels

    return read


def large_enough(gathered: Gathered, crop_px: int) -> Gathered:
    """The same without pictures that no part of this side can be cut from, which are named.

    Raises:
        TrainingError: none is left.
    """
    small = [one for one in gathered.pictures if min(one.size) < crop_px]
    why = {one.name: f"{one.size[1]} x {one.size[0]} px, smaller than the crop of {crop_px} px" for one in small}
    if len(small) == len(gathered.pictures):
        most = max(min(one.size) for one in small)
        raise TrainingError(
            f"parts of {crop_px} x {crop_px} px were to be cut from the pictures, and the largest has room for {most} "
            "px: set a smaller crop, or choose larger pictures"
        )
    left = [one for one in gathered.pictures if min(one.size) >= crop_px]
    return Gathered(left, {**gathered.unused, **why}, gathered.flattened)


def split(pictures: Sequence[Picture], share: float, seed: int) -> tuple[list[Picture], list[Picture]]:
    """The held-out pictures and the others, in their order. At least one is held out of three or more, and one stays.
    Pictures of the same pixels stay together, or one would be judged by what was learned by heart.
    """
    twins: dict[str, list[int]] = {}
    for number, one in enumerate(pictures):
        twins.setdefault(one.digest, []).append(number)
    groups, out = list(twins.values()), set[int]()
    count = 0 if len(groups) < 3 or not share else max(1, round(len(pictures) * share))
    for place in torch.randperm(len(groups), generator=Generator().manual_seed(seed + 1)).tolist()[:-1]:
        if len(out) < count:
            out.update(groups[place])
    held_out = [pictures[number] for number in sorted(out)]
    return held_out, [one for number, one in enumerate(pictures) if number not in out]


@dataclass(frozen=True)
class Crops:
    """How parts are cut: see `VAEPlan`."""

    side_px: int
    shrink: float = 1.0
    mirror: bool = True

    def of(self, picture: Picture, channels: int, generator: Generator) -> Tensor:
        """One part; size, place and mirroring are drawn. -> [C, side, side] in 0..1"""
        height, width = picture.size
        most = min(self.shrink, min(height, width) / self.side_px)
        times = 1 + (most - 1) * float(torch.rand((), generator=generator))
        side = max(self.side_px, min(round(self.side_px * times), height, width))
        top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in (height, width))
        flips = bool(torch.rand((), generator=generator) < 0.5)
        part = picture.part((top, left), (side, side), channels).movedim(-1, 1)
        if side != self.side_px:
            size = (self.side_px, self.side_px)
            part = interpolate(part, size, mode="bicubic", antialias=True).clamp(0, 1)
        return (part.flip(-1) if flips and self.mirror else part)[0]


def draw_crops(pictures: Sequence[Picture], count: int, crops: Crops, channels: int, generator: Generator) -> Tensor:
    """Parts of pictures, each picture as often as its repeats say. -> [count, C, side, side] in -1..1"""
    shares = torch.tensor([float(one.repeats) for one in pictures])
    chosen = torch.multinomial(shares, count, replacement=True, generator=generator).tolist()
    return torch.stack([crops.of(pictures[one], channels, generator) for one in chosen]) * 2 - 1
