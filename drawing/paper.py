"""What every drawing is made on: the palette, the letters, text cut to its room, pictures put into theirs, and the way
from a finished picture to an IMAGE.

Sheets and charts are drawn with Pillow; curves with matplotlib, which is imported when something is drawn, as objects
on the Agg canvas: no window, no state shared with others.
"""

from __future__ import annotations

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
_LATIN_END = "\u0250"  # the built-in font has the letters before this one
_DPI = 200  # letters of 10 points are 28 px: 14 px where 1024 px are shown at 512


def letters(size_px: int) -> Font:
    """The built-in font, which is there on every machine."""
    return ImageFont.load_default(size_px)


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


def fold_lines(draw: ImageDraw.ImageDraw, text: str, font: Font, width_px: float) -> list[str]:
    """The words of the text in as many lines as they need; a word wider than `width_px` has a line of its own."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and draw.textlength(longer, font) > width_px:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


def drawable(text: str, unknown: str = "<{:x}>") -> str:
    """The text in letters that the built-in font has; others are shown by their number, so that nothing is an empty
    box. `unknown` is what stands for such a letter, a format of its number.
    """
    return "".join(
        letter if letter.isprintable() and letter < _LATIN_END else unknown.format(ord(letter)) for letter in text
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
