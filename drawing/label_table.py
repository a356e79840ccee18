"""A batch of pictures with their best labels, as one picture: a row for each, its thumbnail first."""

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from .paper import (
    BACKGROUND,
    FIRST,
    INK,
    OTHERS,
    TRACK,
    Font,
    as_image,
    fit_line,
    letters,
    paste_centred,
    within_square,
)

MAX_ROWS, MAX_COLUMNS = 50, 10
_LINE = (214, 216, 222)  # between two rows
_THUMBNAIL_PX, _CELL_PX, _GAP_PX, _FONT_PX = 200, 230, 12, 40


def label_table(images: Tensor, ranked: Sequence[Sequence[tuple[str, float]]], titles: Sequence[str]) -> Tensor:
    """The k best labels of each picture with their shares in 0..1, best first, and a title over each row.

    Of more than MAX_ROWS pictures or MAX_COLUMNS labels the first are drawn; "+ 3" stands below the pictures for three
    more of them, and at the right for three more labels.

    images [B, H, W, 3 or 4] in 0..1 and B rows of labels -> [1, H', W', 3] in 0..1

    Raises:
        ValueError: as many rows as pictures are not there, or a row without labels.
    """
    if not len(images) or not len(images) == len(ranked) == len(titles) or not all(ranked):
        raise ValueError(
            f"a table needs a row of labels for each picture; got {len(images)} pictures and {len(ranked)} rows"
        )
    columns = min(MAX_COLUMNS, max(map(len, ranked)))
    rows = min(MAX_ROWS, len(images))
    more_pictures, more_labels = len(images) - rows, max(map(len, ranked)) - columns
    more = more_pictures > 0 or more_labels > 0
    height = max(_THUMBNAIL_PX, 6 * _FONT_PX) + 2 * _GAP_PX
    width = _THUMBNAIL_PX + 2 * _GAP_PX + columns * (_CELL_PX + _GAP_PX)
    canvas = Image.new("RGB", (width, rows * height + (2 * _FONT_PX if more else 0)), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    font = letters(_FONT_PX, *titles, *(label for row in ranked for label, _ in row[:columns]))
    for number in range(rows):
        top = number * height
        if number:
            draw.line((0, top, width, top), _LINE)
        paste_centred(canvas, within_square(images[number], _THUMBNAIL_PX), (_GAP_PX, top + _GAP_PX), _THUMBNAIL_PX)
        left = _THUMBNAIL_PX + 2 * _GAP_PX
        draw.text((left, top + _GAP_PX), fit_line(draw, titles[number], font, width - left - _GAP_PX), INK, font)
        for place, (label, share) in enumerate(ranked[number][:columns]):
            corner = left + place * (_CELL_PX + _GAP_PX), top + _GAP_PX + 2 * _FONT_PX
            _cell(draw, font, corner, label, share, first=not place)
    bottom = rows * height + _FONT_PX
    if more_pictures > 0:
        draw.text((_GAP_PX, bottom), f"+ {more_pictures}", INK, font, anchor="lm")
    if more_labels > 0:
        draw.text((width - _GAP_PX, bottom), f"+ {more_labels}", INK, font, anchor="rm")
    return as_image(canvas)


def _cell(
    draw: ImageDraw.ImageDraw, font: Font, place: tuple[int, int], label: str, share: float, *, first: bool
) -> None:
    """A label, its share as a number, and as a bar."""
    left, top = place
    draw.text((left, top), fit_line(draw, label, font, _CELL_PX), INK, font)
    draw.text((left, top + 2 * _FONT_PX - 6), f"{100 * share:.1f} %", INK, font)
    bar = top + 4 * _FONT_PX - 10
    draw.rectangle((left, bar, left + _CELL_PX, bar + 8), TRACK)
    filled = round(_CELL_PX * min(max(share, 0.0), 1.0))
    if filled:
        draw.rectangle((left, bar, left + filled, bar + 8), FIRST if first else OTHERS)
