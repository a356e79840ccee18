"""Ranked pictures side by side: the best first, each with its rank, its place in the batch and its score."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from .paper import BACKGROUND, CHOSEN, FAINT_INK, INK, as_image, fit_line, letters, paste_centred, within_square

MOST = 64
_LEFT = (190, 194, 202)  # around a picture that was not kept
_TILE_PX, _GAP_PX, _LINE_PX = 240, 12, 36


def rank_sheet(
    images: Tensor, order: Sequence[int], scores: Sequence[float], kept: Sequence[int], title: str
) -> Tensor:
    """The first MOST pictures of `order`; those kept are framed in green, the others pale. "-" stands for a NaN score,
    "+ 3" behind the title for three more.

    images [B, H, W, 3] in 0..1, order and kept places in it, a score for each picture -> [1, H', W', 3] in 0..1

    Raises:
        ValueError: nothing to show, or not a score for each picture.
    """
    if not len(order) or len(scores) != len(images):
        raise ValueError(
            f"a sheet needs pictures, and a score for each; got {len(order)} of {len(images)} pictures "
            f"and {len(scores)} scores"
        )
    shown, more = list(order[:MOST]), len(order) - MOST
    columns = max(2, min(4, math.ceil(math.sqrt(len(shown) * 1.6))))
    rows = math.ceil(len(shown) / columns)
    head = _GAP_PX * 2 + _LINE_PX
    step_x, step_y = _TILE_PX + _GAP_PX, _TILE_PX + _LINE_PX + _GAP_PX
    canvas = Image.new("RGB", (_GAP_PX + columns * step_x, head + rows * step_y), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    font, large = letters(28), letters(30, title)
    title += f"   + {more}" if more > 0 else ""
    draw.text((_GAP_PX, _GAP_PX), fit_line(draw, title, large, canvas.width - 2 * _GAP_PX), INK, large)
    for rank, place in enumerate(shown):
        x, y = _GAP_PX + rank % columns * step_x, head + rank // columns * step_y
        _draw_tile(canvas, draw, images[place], (x, y), place in kept)
        score = "-" if math.isnan(scores[place]) else f"{scores[place]:.4f}"
        text = fit_line(draw, f"{rank + 1}.  {score}", font, _TILE_PX - 56)
        draw.text((x, y + _TILE_PX + _LINE_PX / 2), text, INK if place in kept else FAINT_INK, font, anchor="lm")
        draw.text((x + _TILE_PX, y + _TILE_PX + _LINE_PX / 2), f"#{place}", FAINT_INK, font, anchor="rm")
    return as_image(canvas)


def _draw_tile(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, image: Tensor, corner: tuple[int, int], kept: bool
) -> None:
    x, y = corner
    small = within_square(image, _TILE_PX - 10)
    if not kept:
        small = Image.blend(small, Image.new("RGB", small.size, BACKGROUND), 0.45)
    paste_centred(canvas, small, corner, _TILE_PX)
    draw.rectangle(
        (x, y, x + _TILE_PX - 1, y + _TILE_PX - 1), outline=CHOSEN if kept else _LEFT, width=4 if kept else 1
    )
