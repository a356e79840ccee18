"""A prompt's tokens as a picture: for each encoder and chunk its tokens, coloured by their emphasis (white at 1, red
above, blue below).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw
from torch import Tensor

from .paper import (
    BACKGROUND,
    BORDER,
    FAINT_INK,
    INK,
    Colour,
    Font,
    as_image,
    drawable,
    letters,
)

MAX_CHUNKS = 12  # drawn for each encoder; a line says how many more there are
_EMBEDDING = (30, 120, 60)  # around a learned token
_WARM, _COLD = (226, 74, 51), (49, 104, 189)
_FULL_COLOUR_AT = 1.0  # as far from an emphasis of 1 the colour is at its strongest
_SIZE = 22  # px, of the letters
_ROW, _GAP = 60, 12

Paint = Callable[[ImageDraw.ImageDraw, int], None]  # draws a row whose top is at that height


@dataclass(frozen=True)
class Mark:
    """A token as it is drawn."""

    text: str
    emphasis: float
    embedding: bool = False


@dataclass(frozen=True)
class Strip:
    """A chunk: its tokens without start, end and padding, and how many places it has."""

    title: str
    marks: Sequence[Mark]
    places: int


def token_sheet(encoders: Sequence[tuple[str, Sequence[Strip]]], *, width_px: int = 768) -> Tensor:
    """One encoder under the other. -> [1, H, width_px, 3] in 0..1"""
    pieces = [mark.text for _, strips in encoders for strip in strips[:MAX_CHUNKS] for mark in strip.marks]
    font, bold = letters(_SIZE, *pieces), letters(_SIZE + 3)
    rows: list[tuple[int, Paint]] = []  # the height in px of each
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    for title, strips in encoders:
        rows.append((_SIZE * 2, _line(title, bold, INK)))
        for strip in strips[:MAX_CHUNKS]:
            rows.append((_SIZE + 6, _line(strip.title, font, FAINT_INK)))
            rows += [(_ROW, _tokens(line, font)) for line in _wrapped(measure, strip.marks, font, width_px)]
        if len(strips) > MAX_CHUNKS:
            rows.append((_SIZE + 6, _line(f"+ {len(strips) - MAX_CHUNKS}", font, FAINT_INK)))
    canvas = Image.new("RGB", (width_px, sum(height for height, _ in rows) + 2 * _GAP), BACKGROUND)
    draw, y = ImageDraw.Draw(canvas), _GAP
    for height, paint in rows:
        paint(draw, y)
        y += height
    return as_image(canvas)


def colour_of(emphasis: float) -> Colour:
    """White at 1; towards red above and blue below, full at a distance of 1."""
    towards = _WARM if emphasis > 1 else _COLD
    share = min(abs(emphasis - 1) / _FULL_COLOUR_AT, 1.0)
    red, green, blue = (round(255 + (end - 255) * share) for end in towards)
    return red, green, blue


def _line(text: str, font: Font, colour: Colour) -> Paint:
    return lambda draw, y: draw.text((_GAP, y), drawable(text, font=font), colour, font)


def _wrapped(
    draw: ImageDraw.ImageDraw, marks: Sequence[Mark], font: Font, width_px: int
) -> list[list[tuple[int, int, Mark]]]:
    """The tokens in lines: left, width, token."""
    lines: list[list[tuple[int, int, Mark]]] = []
    line: list[tuple[int, int, Mark]] = []
    left = _GAP
    for mark in marks:
        shown = drawable(mark.text, font=font), _weight(mark)
        width = round(max(draw.textlength(text, font) for text in shown)) + 10
        if line and left + width > width_px - _GAP:
            lines.append(line)
            line, left = [], _GAP
        line.append((left, width, mark))
        left += width + 3
    return [*lines, line] if line else lines


def _weight(mark: Mark) -> str:
    """What stands below a token: nothing at 1."""
    return "" if mark.emphasis == 1 else f"{mark.emphasis:.3g}"


def _tokens(line: Sequence[tuple[int, int, Mark]], font: Font) -> Paint:
    small = letters(_SIZE - 1)

    def paint(draw: ImageDraw.ImageDraw, y: int) -> None:
        for left, width, mark in line:
            edge = _EMBEDDING if mark.embedding else BORDER
            draw.rectangle((left, y, left + width, y + _SIZE + 8), colour_of(mark.emphasis), edge)
            draw.text((left + 5, y + 3), drawable(mark.text, font=font), INK, font)
            if mark.emphasis != 1:
                draw.text((left + 2, y + _SIZE + 9), _weight(mark), FAINT_INK, small)

    return paint
