"""A matrix of similarities as a picture: coloured cells with their numbers, thumbnails or texts along the axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .paper import (
    BACKGROUND,
    CHOSEN,
    FAINT_INK,
    INK,
    MARKED,
    MISSING,
    Colour,
    Font,
    as_image,
    fit_line,
    letters,
    one_line,
    paste_centred,
    within_square,
)

MOST = 64  # rows, and columns; the best of more are drawn
_ROW_BEST, _COLUMN_BEST = MARKED, CHOSEN
_COLOURS = ((247, 251, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))  # low to high
_WIDEST_CELL_PX, _SMALLEST_CELL_PX, _CELLS_PX = 96, 30, 1536
_MARGIN_PX, _NAMES_PX, _NARROWEST_PX, _LEGEND_CELL_PX = 14, 240, 420, 11


@dataclass(frozen=True)
class Axis:
    """What stands along one side: a name for each row or column, and pictures [N, H, W, 3] where there are some."""

    names: Sequence[str]
    pictures: Tensor | None = None


@dataclass(frozen=True)
class _Layout:
    cell: int  # px
    left: int  # where the cells begin
    top: int
    size: tuple[int, int]  # of the canvas


def heat_map(values: Tensor, rows: Axis, columns: Axis, title: str, *, diagonal: bool = True) -> Tensor:
    """The matrix with the best cell of each row and of each column marked. NaN cells are grey.

    Of more than MOST rows or columns those with the highest values are drawn, in their order; the title then ends with
    "64 / 90 x 12" for 64 of 90 rows.
    `diagonal` False: the diagonal is each picture with itself, and is nobody's best. [R, C] -> [1, H, W, 3] in 0..1

    Raises:
        ValueError: no rows or columns, or not as many names as there are.
    """
    if not values.numel() or list(values.shape) != [len(rows.names), len(columns.names)]:
        raise ValueError(
            f"a heat map needs a name for each row and column, at least one of each; got a matrix "
            f"{list(values.shape)} for {len(rows.names)} rows and {len(columns.names)} columns"
        )
    judged = values.float().nan_to_num(nan=-torch.inf)
    if not diagonal:
        judged = judged.masked_fill(torch.eye(len(judged), dtype=torch.bool), -torch.inf)
    shown = [_shown(judged.amax(1)), _shown(judged.amax(0))]
    judged, values = judged[shown[0]][:, shown[1]], values[shown[0]][:, shown[1]]
    best = [_bests(judged), _bests(judged.T)]
    axes = [_chosen(axis, places) for axis, places in zip((rows, columns), shown)]
    counts = [(len(places), len(axis.names)) for places, axis in zip(shown, (rows, columns))]
    sizes = " x ".join(f"{drawn} / {there}" if drawn < there else str(there) for drawn, there in counts)
    is_cut = any(drawn < there for drawn, there in counts)
    finite = judged[judged.isfinite()].tolist() or values[values.isfinite()].tolist() or [0.0]
    title += f"  ({sizes})" if is_cut else ""
    return _drawn(values, axes, best, (min(finite), max(finite)), title)


def stack_pictures(pictures: Sequence[Tensor]) -> Tensor:
    """One below the other, on the widest one's width. [1, H, W, 3] each -> [1, sum of H, W, 3]"""
    width = max(picture.shape[2] for picture in pictures)
    paper = torch.tensor(BACKGROUND) / 255.0
    wide = [torch.cat([one, paper.expand(1, one.shape[1], width - one.shape[2], 3)], 2) for one in pictures]
    return torch.cat(wide, 1)


def _shown(highest: Tensor) -> list[int]:
    """The places of the MOST highest, in their order."""
    return sorted(highest.argsort(descending=True, stable=True)[:MOST].tolist())


def _chosen(axis: Axis, places: list[int]) -> Axis:
    """What stands along a side at these places, each name on one line."""
    names = [" ".join(axis.names[place].splitlines()) for place in places]
    return Axis(names, None if axis.pictures is None else axis.pictures[places])


def _bests(judged: Tensor) -> list[int | None]:
    """For each row the column of its greatest value."""
    most, place = judged.max(1)
    return [at if math.isfinite(value) else None for value, at in zip(most.tolist(), place.tolist())]


def _drawn(
    values: Tensor, axes: list[Axis], best: list[list[int | None]], span: tuple[float, float], title: str
) -> Tensor:
    layout = _planned(axes)
    canvas = Image.new("RGB", layout.size, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    font = letters(16, title)
    draw.text((_MARGIN_PX, _MARGIN_PX), fit_line(draw, title, font, layout.size[0] - 2 * _MARGIN_PX), INK, font)
    _draw_cells(draw, layout, values.tolist(), span)
    _draw_marks(draw, layout, best)
    _draw_rows(canvas, draw, layout, axes[0])
    _draw_columns(canvas, draw, layout, axes[1])
    _draw_legend(draw, layout, span)
    return as_image(canvas)


def _planned(axes: list[Axis]) -> _Layout:
    counts = [len(axis.names) for axis in axes]
    cell = max(_SMALLEST_CELL_PX, min(_WIDEST_CELL_PX, _CELLS_PX // max(counts)))
    rooms = []
    for axis in axes:
        font = _name_font(axis, cell)
        widest = max(font.getlength(one_line(name)) for name in axis.names)
        rooms.append(min(_NAMES_PX, round(widest)) + 10 + (cell if axis.pictures is not None else 0))
    if _are_short(axes[1], cell, _name_font(axes[1], cell)):
        rooms[1] = 24 + (cell if axes[1].pictures is not None else 0)
    left, top = _MARGIN_PX + rooms[0], _MARGIN_PX + 34 + rooms[1]
    width = max(_NARROWEST_PX, left + counts[1] * cell + _MARGIN_PX)
    return _Layout(cell, left, top, (width, top + counts[0] * cell + 70))


def _are_short(axis: Axis, cell: int, font: Font) -> bool:
    """Whether every name can stand upright over its column."""
    return max(font.getlength(name) for name in axis.names) <= cell - 4


def _name_font(axis: Axis, cell: int) -> Font:
    return letters(max(11, min(16, cell // 3)), *axis.names)


def _draw_cells(
    draw: ImageDraw.ImageDraw, layout: _Layout, numbers: list[list[float]], span: tuple[float, float]
) -> None:
    font = letters(max(9, min(20, round(layout.cell * 0.3))))
    for row, line in enumerate(numbers):
        for column, value in enumerate(line):
            x, y = layout.left + column * layout.cell, layout.top + row * layout.cell
            missing = not math.isfinite(value)
            fill = MISSING if missing else _colour(value, span)
            draw.rectangle((x, y, x + layout.cell - 2, y + layout.cell - 2), fill)
            text = "-" if missing else _short(value, layout.cell)
            ink = BACKGROUND if sum(fill) < 380 else INK
            draw.text((x + layout.cell / 2, y + layout.cell / 2), text, ink, font, anchor="mm")


def _short(value: float, cell: int) -> str:
    text = f"{value:.2f}" if cell < 64 else f"{value:.3f}"
    return text.replace("0.", ".", 1) if cell < 48 else text


def _colour(value: float, span: tuple[float, float]) -> Colour:
    low, high = span
    share = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5
    place = share * (len(_COLOURS) - 1)
    index = min(int(place), len(_COLOURS) - 2)
    red, green, blue = (round(a + (b - a) * (place - index)) for a, b in zip(_COLOURS[index], _COLOURS[index + 1]))
    return red, green, blue


def _draw_marks(draw: ImageDraw.ImageDraw, layout: _Layout, best: list[list[int | None]]) -> None:
    """A frame for the best of a row, a corner for the best of a column."""

    def corner(row: int, column: int) -> tuple[int, int]:
        return layout.left + column * layout.cell, layout.top + row * layout.cell

    for number, place in enumerate(best[0]):
        if place is not None:
            x, y = corner(number, place)
            draw.rectangle((x, y, x + layout.cell - 2, y + layout.cell - 2), outline=_ROW_BEST, width=3)
    for number, place in enumerate(best[1]):
        if place is not None:
            x, y = corner(place, number)
            side = max(8, layout.cell // 4)
            draw.polygon([(x, y), (x + side, y), (x, y + side)], _COLUMN_BEST)


def _draw_rows(canvas: Image.Image, draw: ImageDraw.ImageDraw, layout: _Layout, axis: Axis) -> None:
    font = _name_font(axis, layout.cell)
    for row, name in enumerate(axis.names):
        x, y = layout.left - 6, layout.top + row * layout.cell
        if axis.pictures is not None:
            x = layout.left - layout.cell - 6
            _paste(canvas, axis.pictures[row], (x + 4, y), layout.cell)
        text = fit_line(draw, name, font, _NAMES_PX)
        draw.text((x, y + layout.cell / 2), text, INK, font, anchor="rm")


def _draw_columns(canvas: Image.Image, draw: ImageDraw.ImageDraw, layout: _Layout, axis: Axis) -> None:
    """Names longer than a cell are turned, to be read from below."""
    font = _name_font(axis, layout.cell)
    short = _are_short(axis, layout.cell, font)
    for column, name in enumerate(axis.names):
        x, y = layout.left + column * layout.cell, layout.top - 4
        if axis.pictures is not None:
            _paste(canvas, axis.pictures[column], (x, layout.top - layout.cell - 2), layout.cell)
            y -= layout.cell
        if short:
            draw.text((x + layout.cell / 2, y - 2), name, INK, font, anchor="mb")
            continue
        text = fit_line(draw, name, font, _NAMES_PX)
        label = Image.new("RGB", (max(1, round(draw.textlength(text, font))), layout.cell), BACKGROUND)
        ImageDraw.Draw(label).text((0, layout.cell / 2), text, INK, font, anchor="lm")
        turned = label.rotate(90, expand=True)
        canvas.paste(turned, (x, y - turned.height))


def _paste(canvas: Image.Image, picture: Tensor, place: tuple[int, int], side: int) -> None:
    small = within_square(picture, side - 4)
    paste_centred(canvas, small, place, side)


def _draw_legend(draw: ImageDraw.ImageDraw, layout: _Layout, span: tuple[float, float]) -> None:
    font = letters(13)
    x, y = _MARGIN_PX, layout.size[1] - 56
    for place in range(120):
        draw.line((x + place, y, x + place, y + 12), _colour(place / 119, (0.0, 1.0)))
    draw.text((x + 130, y + 6), f"{span[0]:.3f} … {span[1]:.3f}", INK, font, anchor="lm")
    y, side = y + 19, _LEGEND_CELL_PX
    for place in range(3):  # the marks as they stand in a row and in a column of three cells
        draw.rectangle((x + place * side, y, x + (place + 1) * side, y + side), outline=FAINT_INK)
        draw.rectangle((x + 60, y + place * side, x + 60 + side, y + (place + 1) * side), outline=FAINT_INK)
    draw.rectangle((x + side, y, x + 2 * side, y + side), outline=_ROW_BEST, width=3)
    draw.polygon([(x + 60, y + side), (x + 60 + side, y + side), (x + 60, y + 2 * side)], _COLUMN_BEST)
