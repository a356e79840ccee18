"""Pictures side by side with a few words below each: search results, groups of near-duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw
from torch import Tensor

from .fit import batch_size_px, fit_picture
from .paper import BACKGROUND, FAINT_INK, INK, Font, as_image, cut, drawable, letters, paste_centred

THUMB_PX = 240
_MIN_COLUMNS = 3
_GAP, _SIZE = 12, 28  # px; of the letters
_MAT = (232, 234, 240)  # behind a picture


@dataclass(frozen=True)
class Cell:
    """A picture, uint8 [H, W, 3] (None: it could not be read), and the lines below it."""

    picture: Tensor | None
    lines: tuple[str, ...] = ()


def thumbnail(picture: Tensor) -> Tensor:
    """The picture at the size it has on a sheet. uint8 [H, W, 3] -> uint8 [h, w, 3]"""
    height, width = picture.shape[:2]
    return fit_picture(picture, *batch_size_px(width, height, THUMB_PX), "pad")


def contact_sheet(rows: Iterable[tuple[str, Sequence[Cell]]], *, columns: int = 4) -> Tensor:
    """Titled rows of cells, each row over as many lines as it needs. -> [1, H, W, 3] in 0..1"""
    total = _GAP
    lines: list[tuple[int, str, Sequence[Cell]]] = []  # top, title, cells
    rows = list(rows)
    texts = [text for title, cells in rows for text in (title, *(line for cell in cells for line in cell.lines))]
    font = letters(_SIZE, *texts)
    columns = max(_MIN_COLUMNS, min(columns, max((len(cells) for _, cells in rows), default=0)))
    width = columns * (THUMB_PX + _GAP) + _GAP
    for title, cells in rows:
        words = max((len(cell.lines) for cell in cells), default=0)
        if title:
            lines.append((total, title, ()))
            total += _SIZE + _GAP
        for start in range(0, len(cells), columns):
            lines.append((total, "", cells[start : start + columns]))
            total += THUMB_PX + words * (_SIZE + 4) + _GAP
    canvas = Image.new("RGB", (width, max(total, 2 * _GAP + _SIZE)), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for top, title, cells in lines:
        draw.text((_GAP, top), _short(draw, title, font, width - 2 * _GAP), INK, font)
        for column, cell in enumerate(cells):
            _paint(canvas, draw, cell, _GAP + column * (THUMB_PX + _GAP), top, font)
    return as_image(canvas)


def blank_sheet() -> Tensor:
    """An empty sheet, for where there is nothing to show: what there is to say stands in the report. -> [1, H, W, 3]"""
    return as_image(Image.new("RGB", (THUMB_PX, THUMB_PX), BACKGROUND))


def _paint(canvas: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, left: int, top: int, font: Font) -> None:
    draw.rectangle((left, top, left + THUMB_PX - 1, top + THUMB_PX - 1), _MAT)
    if cell.picture is not None:
        paste_centred(canvas, Image.fromarray(thumbnail(cell.picture).numpy()), (left, top), THUMB_PX)
    for number, line in enumerate(cell.lines):
        place = (left, top + THUMB_PX + 3 + number * (_SIZE + 4))
        draw.text(place, _short(draw, line, font, THUMB_PX), FAINT_INK if number else INK, font)


def _short(draw: ImageDraw.ImageDraw, text: str, font: Font, width_px: int) -> str:
    """The text in letters that the font has, its end cut to the width."""
    return cut(draw, drawable(text, "?", font), font, width_px, "...", ".")
