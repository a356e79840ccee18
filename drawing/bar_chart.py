"""A bar chart as a picture: names on the left, bars in the middle, percentages on the right."""

import math
from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .paper import BACKGROUND, FIRST, INK, OTHERS, TRACK, Font, as_image, fit_line, letters, within_square

MAX_BARS = 20
_MIN_WIDTH_PX = 240


def bar_chart(
    labels: Sequence[str],
    values: Sequence[float],
    title: str,
    *,
    width_px: int = 640,
    thumbnail: Tensor | None = None,
    more: int = 0,
) -> Tensor:
    """Bars for values in 0..1, largest first; at most MAX_BARS of them, and below them "+ 3" for three more: those left
    out, and `more` that are not among the values.

    The thumbnail, a picture [1, H, W, 3] or [H, W, 3] in 0..1, is put to the left of the bars.

    -> [1, H, W, 3] in 0..1

    Raises:
        ValueError: no bars, as many labels as values are not there, a value outside 0..1, or too narrow.
    """
    if not labels or len(labels) != len(values):
        raise ValueError(f"a chart needs as many labels as values, at least one; got {len(labels)} and {len(values)}")
    if any(not 0 <= value <= 1.000001 for value in values):
        raise ValueError(f"a chart shows values between 0 and 1; got {list(values)[:5]}")
    if width_px < _MIN_WIDTH_PX:
        raise ValueError(f"a chart needs a width of {_MIN_WIDTH_PX} pixels or more; got {width_px}")
    ranked = sorted(zip(labels, values), key=lambda pair: -pair[1])
    shown, more = ranked[:MAX_BARS], more + max(0, len(ranked) - MAX_BARS)
    size = max(12, min(22, round(width_px / 36)))
    row, gap = round(size * 1.7), round(size * 0.8)
    font, large = letters(size, *labels), letters(round(size * 1.2), title)
    picture = within_square(thumbnail, min(width_px // 4, 12 * row)) if thumbnail is not None else None
    top = gap + round(size * 2.0)
    height = top + row * (len(shown) + (more > 0)) + gap
    if picture is not None:
        height = max(height, top + picture.height + gap)
    canvas = Image.new("RGB", (width_px, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    left = gap
    draw.text((left, gap), fit_line(draw, title, large, width_px - 2 * gap), INK, large)
    if picture is not None:
        canvas.paste(picture, (left, top))
        left += picture.width + gap
    _bars(draw, shown, font, (left, top, width_px - gap, row))
    if more > 0:
        draw.text((left, top + row * len(shown) + row // 2), f"+ {more}", INK, font, anchor="lm")
    return as_image(canvas)


def bar_charts(
    charts: Sequence[tuple[str, Mapping[str, float]]], images: Tensor, *, width_px: int = 640, more: int = 0
) -> Tensor:
    """One chart for each picture of a batch: its title, its values in 0..1 by label, the picture as thumbnail.

    N charts of as many bars each, and images [N, H, W, 3] in 0..1 -> [N, H', width_px, 3] in 0..1
    """
    if len(charts) != len(images) or len({len(values) for _, values in charts}) != 1:
        raise ValueError(
            f"one chart for each picture was expected, all with as many bars; got {len(charts)} charts of "
            f"{[len(values) for _, values in charts][:5]} bars for {len(images)} pictures"
        )
    drawn = [
        bar_chart(list(values), list(values.values()), title, width_px=width_px, thumbnail=image, more=more)
        for (title, values), image in zip(charts, images)
    ]
    return torch.cat(drawn)


def _bars(
    draw: ImageDraw.ImageDraw, rows: list[tuple[str, float]], font: Font, place: tuple[int, int, int, int]
) -> None:
    """Draw the rows; place = left, top, right and height of a row, in pixels."""
    left, top, right, row = place
    percent_px = math.ceil(draw.textlength("100.0 %", font))
    names = [fit_line(draw, label, font, (right - left) * 45 // 100) for label, _ in rows]
    name_px = math.ceil(max(draw.textlength(name, font) for name in names))
    begin, end = left + name_px + row // 3, right - percent_px - row // 3
    for index, (name, (_, value)) in enumerate(zip(names, rows)):
        y = top + row * index
        draw.text((begin - row // 3, y + row // 2), name, INK, font, anchor="rm")
        draw.rectangle((begin, y + row // 6, end, y + row - row // 6), TRACK)
        filled = round((end - begin) * min(value, 1.0))
        if filled:
            draw.rectangle((begin, y + row // 6, begin + filled, y + row - row // 6), OTHERS if index else FIRST)
        draw.text((right, y + row // 2), f"{100 * value:.1f} %", INK, font, anchor="rm")
