"""Picture files opened by their content, and by Pillow alone: what it raises for a file is one sentence about it."""

import errno
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from ..contents import size_text
from ..errors import FileFormatError
from ..sniff import regular_file_size
from .bare import bare
from .kinds import known, refusal
from .orientation import orientation, turned

MAX_PIXELS = 178_956_970  # all frames together; where Pillow, too, refuses a single picture
_BARE_BYTES = 256 << 20  # of a file that is tried again without what is said about the picture
_HEAD_BYTES = 512
_WANTED = "expected a picture"
_BROKEN = (  # the families of what Pillow's readers raise for files that are damaged, odd, or made to be
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    SystemError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
Read = TypeVar("Read")
Upright = Callable[[Image.Image], Image.Image]


def read_picture(path: Path, use: Callable[[Image.Image, Upright], Read], data: bytes | None = None) -> Read:
    """Open a picture and return what `use` makes of it; `use` gets the picture, not yet decoded, and a function that
    decodes its present frame and turns it upright. `use` may be called twice.

    data: the picture itself, where it lies within a file of another kind.

    Raises:
        FileFormatError: missing, empty, no picture of a known kind, cut short, damaged, or too large.
    """
    size = regular_file_size(path, _WANTED, "what wrote or copied it did not finish")
    try:
        return _read(path if data is None else BytesIO(data), use)
    except FileFormatError:
        raise
    except _BROKEN as error:
        problem = error
    content = _content(path, size) if data is None else data
    rest = None if isinstance(problem, MemoryError | Image.DecompressionBombError) else bare(content)
    if rest is not None:
        try:
            return _read(BytesIO(rest.data), use, rest.exif)
        except _BROKEN as error:
            if isinstance(error, FileFormatError):
                raise
    raise FileFormatError(path, _reason(problem, content, size)) from problem


def check_pixels(path: Path, pixels: int) -> None:
    """Refuse a picture with more pixels, in all its frames, than are decoded here.

    Raises:
        FileFormatError: more than MAX_PIXELS.
    """
    if pixels > MAX_PIXELS:
        raise FileFormatError(path, _too_large(regular_file_size(path)))


def _read(file: Path | BytesIO, use: Callable[[Image.Image, Upright], Read], exif: bytes | None = None) -> Read:
    def upright(frame: Image.Image) -> Image.Image:
        mark = _load(frame)
        return turned(frame, orientation(frame, exif) if mark is None else mark)

    with Image.open(file, formats=known()) as picture:
        return use(picture, upright)


def _load(frame: Image.Image) -> int | None:
    """Decode a frame; its orientation mark where that need not be looked for, as Pillow turns a TIFF by itself."""
    if frame.format != "TIFF":
        frame.load()
        return None
    try:
        frame.load()
    except _BROKEN:
        if getattr(frame, "tile", None):  # the tiles go when the pixels are there: then only the marks are broken
            raise
        return _tiff_mark(frame)
    return 1


def _tiff_mark(frame: Image.Image) -> int:
    try:
        mark = getattr(frame, "tag_v2", {}).get(0x0112, 1)
    except _BROKEN:
        return 1
    return mark if isinstance(mark, int) else 1


def _content(path: Path, size: int) -> bytes:
    """The file, or its beginning where it is large or cannot be read again."""
    try:
        with open(path, "rb") as file:
            return file.read(-1 if size <= _BARE_BYTES else _HEAD_BYTES)
    except OSError:
        return b""


def _too_large(size: int) -> str:
    return (
        f"it has more than {MAX_PIXELS // 10**6} million pixels in {size_text(size)}: too many to open; save a smaller "
        "copy of it"
    )


def _reason(problem: BaseException, content: bytes, size: int) -> str:
    """Why a picture could not be read, as a sentence."""
    if isinstance(problem, UnidentifiedImageError):
        return refusal(content[:_HEAD_BYTES])
    if isinstance(problem, Image.DecompressionBombError):
        return _too_large(size)
    if isinstance(problem, MemoryError):
        return "there is not enough memory to read this picture; save a smaller copy of it"
    if isinstance(problem, OSError) and problem.errno not in (
        None,
        errno.EINVAL,
    ):  # a place before the file's beginning
        return f"cannot be read: {problem.strerror or problem}"
    said = " ".join(str(problem).split())[:200] or type(problem).__name__
    if isinstance(problem, NotImplementedError):
        return f"this picture is of a variety that is not read here ({said}); save it as PNG, JPEG or WebP"
    return f"this picture is damaged or was cut short, and cannot be read to its end ({said})"
