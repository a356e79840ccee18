"""What every drawing is made on: the palette, the letters, text cut to its room, pictures put into theirs, and the way
from a finished picture to an IMAGE.

Sheets and charts are drawn with Pillow; curves with matplotlib, which is imported when something is drawn, as objects
on the Agg canvas: no window, no state shared with others.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

Colour = tuple[int, int, int]  # 0..255
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

BACKGROUND, INK, FAINT_INK = (250, 250, 250), (30, 30, 34), (120, 124, 134)
TRACK, BORDER, MISSING = (226, 228, 234), (170, 174, 184), (214, 214, 214)  # behind a bar; around a cell; no value
FIRST, OTHERS = (37, 99, 170), (142, 172, 208)  # the best of several bars, and the bars after it
CHOSEN, MARKED = (30, 140, 60), (200, 60, 20)
PLOT_BLUE, PLOT_ORANGE, PLOT_GREEN, PLOT_RED = "#0072b2", "#d55e00", "#1b7f4d", "#b02020"
PLOT_GREY, PLOT_GRID = "#8a8f9c", "#e6e8ee"

_MOST_LETTERS = 400  # of a text are looked at; more can never be drawn
_FONTS = (  # of systems, with the letters of many languages; looked for where the built-in one lacks a letter
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "simhei.ttf",
    "DejaVuSans.ttf",
    "arial.ttf",
)
_NO_LETTER = "\U0010ffff"  # no font has it; what is drawn for it is drawn for every letter that a font lacks
_TRIED_PX = 16  # at which it is looked whether a font has a letter
_DPI = 200  # letters of 10 points are 28 px: 14 px where 1024 px are shown at 512


def letters(size_px: int, *texts: str) -> Font:
    """The built-in font, which is there on every machine and has English letters; or, of the fonts that this machine
    has, the one that lacks the fewest letters of the texts.
    """
    wanted = {letter for text in texts for letter in text[:_MOST_LETTERS] if letter.isprintable()}
    best: Font = ImageFont.load_default(size_px)
    fewest = sum(_lacks("", letter) for letter in wanted)
    for name in _FONTS if fewest else ():
        font = _font(name, size_px)
        lacking = sum(_lacks(name, letter) for letter in wanted)
        if font is not None and lacking < fewest:
            best, fewest = font, lacking
    return best


@cache
def _font(name: str, size_px: int) -> Font | None:
    """The font of that name, "" for the built-in one; None where this machine does not have it."""
    if not name:
        return ImageFont.load_default(size_px)
    try:
        return ImageFont.truetype(name, size_px)
    except OSError:
        return None


@cache
def _lacks(name: str, letter: str) -> bool:
    """Whether the font of that name has no drawing of its own for the letter."""
    font = _font(name, _TRIED_PX)
    return font is None or bytes(font.getmask(letter)) == bytes(font.getmask(_NO_LETTER))


def one_line(text: str) -> str:
    """The text with every stretch of white space, line breaks too, as one space."""
    return " ".join(text[:_MOST_LETTERS].split())


def fit_line(draw: ImageDraw.ImageDraw, text: str, font: Font, width_px: float) -> str:
    """The text on one line, cut with an ellipsis where it is too long."""
    return cut(draw, one_line(text), font, width_px, "…")


def cut(draw: ImageDraw.ImageDraw, text: str, font: Font, width_px: float, end: str, dropped: str | None = None) -> str:
    """The text, or where it is wider than `width_px` as much of its beginning as fits with `end` behind it; before
    `end` the letters in `dropped` (None: white space) are left out.
    """
    text = text[:_MOST_LETTERS]
    if draw.textlength(text, font) <= width_px:
        return text
    while text and draw.textlength(text.rstrip(dropped) + end, font) > width_px:
        text = text[:-1]
    return text.rstrip(dropped) + end


def drawable(text: str, unknown: str = "<{:x}>", font: Font | None = None) -> str:
    """The text in letters that the font has, the built-in one by default; others are shown by their number, so that
    nothing is an empty box. `unknown` is what stands for such a letter, a format of its number.
    """
    path = getattr(font, "path", "")
    name = path if isinstance(path, str) else ""  # the built-in font lies in no file
    return "".join(
        letter if letter.isprintable() and not _lacks(name, letter) else unknown.format(ord(letter)) for letter in text
    )


def within_square(image: Tensor, side_px: int) -> Image.Image:
    """The picture scaled until its longer side is `side_px`. [1, H, W, 3 or more] or [H, W, 3 or more] in 0..1

    Raises:
        ValueError: another shape, or no pixels.
    """
    image = image[0] if image.ndim == 4 else image
    if image.ndim != 3 or image.shape[-1] < 3 or not image.numel():
        raise ValueError(f"a thumbnail is a picture [height, width, 3]; got {list(image.shape)}")
    values = np.nan_to_num(image[..., :3].detach().float().cpu().numpy()).clip(0, 1)
    picture = Image.fromarray((values * 255).round().astype(np.uint8))
    scale = side_px / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


def paste_centred(canvas: Image.Image, picture: Image.Image, corner: tuple[int, int], side_px: int) -> None:
    """Put the picture into the middle of a square of the canvas; corner = its left and top."""
    left, top = corner
    canvas.paste(picture, (left + (side_px - picture.width) // 2, top + (side_px - picture.height) // 2))


def as_image(picture: Image.Image | np.ndarray) -> Tensor:
    """What was drawn, 8 bits a colour, as an IMAGE. [H, W, 3] -> [1, H, W, 3] in 0..1"""
    image = np.array(picture).astype(np.float32)
    image /= 255.0  # in place: a sheet can be large
    return torch.from_numpy(image)[None]


def new_figure(width_px: int, height_px: int) -> FigureCanvasAgg:
    """An empty white figure of matplotlib's on a canvas of that size, for `figure_image`.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ValueError(
            "the Python package matplotlib, which draws this plot, is not installed; run pip install matplotlib"
        ) from error
    size = (width_px / _DPI, height_px / _DPI)
    return FigureCanvasAgg(Figure(figsize=size, dpi=_DPI, layout="constrained", facecolor="white"))


def write_title(canvas: FigureCanvasAgg, title: str) -> None:
    """Put the title over a figure, letter by letter as it is: "$" begins no formula."""
    wrap = "$" not in title  # where matplotlib wraps, it measures the words as formulas even so
    canvas.figure.suptitle(title, fontsize=11, wrap=wrap, parse_math=False)


def figure_image(canvas: FigureCanvasAgg) -> Tensor:
    """The picture of a canvas's figure. -> [1, H, W, 3] in 0..1"""
    canvas.draw()
    return as_image(np.asarray(canvas.buffer_rgba())[..., :3])
