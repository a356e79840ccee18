"""Pictures side by side with a few words below each: search results, groups of near-duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .chart import as_image
from .picture_batch import batch_size_px, fitted

THUMB_PX = 160
_MIN_COLUMNS = 3
_GAP, _SIZE = 10, 13  # px; of the letters
_BACKGROUND, _TEXT, _FAINT, _MAT = (250, 250, 250), (30, 30, 34), (120, 124, 134), (232, 234, 240)


@dataclass(frozen=True)
class Cell:
    """A picture, uint8 [H, W, 3] (None: it could not be read), and the lines below it."""

    picture: Tensor | None
    lines: tuple[str, ...] = ()


def thumbnail(picture: Tensor) -> Tensor:
    """The picture at the size it has on a sheet. uint8 [H, W, 3] -> uint8 [h, w, 3]"""
    height, width = picture.shape[:2]
    return fitted(picture, *batch_size_px(width, height, THUMB_PX), "pad")


def contact_sheet(rows: Iterable[tuple[str, Sequence[Cell]]], *, columns: int = 6) -> Tensor:
    """Titled rows of cells, each row over as many lines as it needs. -> [1, H, W, 3] in 0..1"""
    font, lines, total = ImageFont.load_default(_SIZE), [], _GAP
    rows = list(rows)
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
    canvas = Image.new("RGB", (width, max(total, 2 * _GAP + _SIZE)), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for top, title, cells in lines:
        draw.text((_GAP, top), _short(draw, title, font, width - 2 * _GAP), _TEXT, font)
        for column, cell in enumerate(cells):
            _paint(canvas, draw, cell, _GAP + column * (THUMB_PX + _GAP), top, font)
    return as_image(canvas)


def _paint(canvas: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, left: int, top: int, font) -> None:
    draw.rectangle((left, top, left + THUMB_PX - 1, top + THUMB_PX - 1), _MAT)
    if cell.picture is not None:
        small = Image.fromarray(thumbnail(cell.picture).numpy())
        canvas.paste(small, (left + (THUMB_PX - small.width) // 2, top + (THUMB_PX - small.height) // 2))
    for number, line in enumerate(cell.lines):
        place = (left, top + THUMB_PX + 3 + number * (_SIZE + 4))
        draw.text(place, _short(draw, line, font, THUMB_PX), _FAINT if number else _TEXT, font)


def _short(draw: ImageDraw.ImageDraw, text: str, font, width_px: int) -> str:
    """The text in letters the built-in font has, its end cut to the width."""
    text = "".join(letter if letter.isprintable() and letter < "\u0250" else "?" for letter in text[:400])
    while text and draw.textlength(text, font) > width_px:
        text = text[: -4 if text.endswith("...") else -1].rstrip(".") + "..."
        if len(text) <= 4:
            break
    return text
