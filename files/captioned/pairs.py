"""Pictures with words, wherever they lie: a file of its own, or a stretch of bytes in an archive."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..errors import FileFormatError
from ..pictures import read_rgb

KINDS = frozenset(
    f".{kind}"
    for kind in (
        *("png", "jpg", "jpeg", "jfif", "webp", "bmp", "gif", "tif", "tiff", "avif", "jxl", "jp2"),
        *("ppm", "pgm", "pnm", "tga", "ico", "qoi", "heic", "heif"),
    )
)  # the endings of pictures


@dataclass(frozen=True)
class Pair:
    """A picture and its words. name: as a report names it. caption: "" where it has none; label: its class, or "".
    first, size: where in `path` the picture lies, bytes; size 0: it is the file.
    """

    name: str
    path: Path
    caption: str = ""
    label: str = ""
    repeats: int = 1
    first: int = 0
    size: int = 0


@dataclass(frozen=True)
class Pairs:
    """The pairs of a source in its order, what of it is not used -> why, and what a report should say."""

    pairs: tuple[Pair, ...]
    unused: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_pair(pair: Pair) -> Tensor:
    """Read the picture of a pair in 8-bit colours, on white where it is transparent. -> uint8 [3, H, W]

    Raises:
        FileFormatError: missing, no picture, cut short, or too large.
    """
    if not pair.size:
        return read_rgb(pair.path).permute(2, 0, 1).contiguous()
    try:
        with open(pair.path, "rb") as file:
            file.seek(pair.first)
            data = file.read(pair.size)
    except OSError as error:
        raise FileFormatError(pair.path, f"cannot be read: {error.strerror or error}") from error
    if len(data) < pair.size:
        raise FileFormatError(pair.path, f"{pair.name} is cut short: copy the file again")
    return read_rgb(pair.path, data=data).permute(2, 0, 1).contiguous()


def joined(sources: Iterable[Pairs]) -> Pairs:
    """Several sources as one."""
    found = list(sources)
    return Pairs(
        tuple(pair for one in found for pair in one.pairs),
        {name: why for one in found for name, why in one.unused.items()},
        tuple(dict.fromkeys(note for one in found for note in one.notes)),
    )
