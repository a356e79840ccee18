"""LoRAs side by side as a picture: the cosine of every pair in every block, and how concentrated each change is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .paper import drawable, figure_image, new_figure, one_line

_MOST_BLOCKS, _MOST_PAIRS, _MOST_FILES, _MOST_DIRECTIONS = 64, 28, 8, 64
_LONGEST = 40


@dataclass(frozen=True)
class Row:
    """Two files: their names, their cosine in all and by block, -1 to 1, None where they do not meet."""

    name: str
    whole: float | None
    blocks: Sequence[float | None]


def lora_comparison(
    rows: Sequence[Row],
    blocks: Sequence[str],
    curves: Mapping[str, Sequence[float]],
    *,
    width_px: int = 1024,
    height_px: int = 640,
) -> Tensor:
    """Above, a row of cells for each pair: blue pushes the same way, red against; below, the share of a change's energy
    that its first directions hold. Of many pairs, blocks and files the first are drawn. -> [1, H, W, 3] in 0..1

    Raises:
        ValueError: there is no file, or matplotlib is not installed.
    """
    if not curves:
        raise ValueError("a picture needs a LoRA or more, but there is none; choose one")
    canvas = new_figure(width_px, height_px)
    figure = canvas.figure
    if rows and blocks:
        above, below = figure.subplots(2, 1, height_ratios=(2, 3))
        _cells(figure, above, rows[:_MOST_PAIRS], list(blocks[:_MOST_BLOCKS]))
    else:
        below = figure.subplots(1, 1)
    lines = []
    for shares in list(curves.values())[:_MOST_FILES]:
        reached = np.cumsum(np.asarray(shares[:_MOST_DIRECTIONS], dtype=float)) * 100
        lines += below.plot(np.arange(1, len(reached) + 1), reached, marker=".", linewidth=1.4)
    below.set_ylim(0, 103)
    below.set_xlabel("k")
    below.set_ylabel("Σσ² (%)")
    legend = below.legend(lines, [_short(name) for name in list(curves)[:_MOST_FILES]], loc="lower right", fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
    below.grid(alpha=0.25)
    return figure_image(canvas)


def _short(name: str) -> str:
    """A name as matplotlib draws it: one line, its end kept where it is long."""
    name = drawable(one_line(name))
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"


def _cells(figure, axes, rows: Sequence[Row], blocks: Sequence[str]) -> None:
    values = np.array(
        [[np.nan if one is None else one for one in (row.whole, *row.blocks[: len(blocks)])] for row in rows],
        dtype=float,
    )
    drawn = axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(rows)), [_short(row.name) for row in rows], fontsize=8, parse_math=False)
    axes.set_xticks(range(len(blocks) + 1), ["Σ", *blocks], rotation=90, fontsize=7)
    figure.colorbar(drawn, ax=axes, label="cos", pad=0.01)
