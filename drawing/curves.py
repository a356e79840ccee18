"""Two encoded prompts as curves: how alike their tokens are, and how long their vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .paper import (
    PLOT_BLUE,
    PLOT_GREEN,
    PLOT_GREY,
    PLOT_GRID,
    PLOT_ORANGE,
    PLOT_RED,
    figure_image,
    new_figure,
    write_title,
)

_MARKERS_UP_TO = 160  # tokens; more of them are a line alone


@dataclass(frozen=True)
class TokenCurves:
    """For each token the cosine, of those that both have, and the lengths in both; None where there is none."""

    title: str
    cosine: Sequence[float | None]
    first: Sequence[float | None]
    second: Sequence[float | None]
    borders: Sequence[int] = ()  # tokens that begin a chunk


def token_plot(curves: TokenCurves, *, width_px: int = 1024, height_px: int = 800) -> Tensor:
    """The cosine above (a cross: none), both lengths below, the borders between chunks as dashed lines.

    -> [1, H, W, 3] in 0..1

    Raises:
        ValueError: there is nothing to draw, or matplotlib is not installed.
    """
    if not len(curves.first) and not len(curves.second):
        raise ValueError("a plot needs a token or more, but there is none; check the prompt before it")
    canvas = new_figure(width_px, height_px)
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    figure = canvas.figure
    above, below = figure.subplots(2, 1, sharex=True)
    write_title(canvas, curves.title)
    _curve(above, curves.cosine, PLOT_GREEN)
    above.set_ylabel("cos")
    low = min(_finite(curves.cosine), default=0.0)
    above.set_ylim(min(-0.02, low * 1.05), 1.05)
    if without := [place for place, value in enumerate(curves.cosine) if value is None]:
        above.plot(
            without,
            [0.03] * len(without),
            "x",
            color=PLOT_RED,
            markersize=5,
            transform=above.get_xaxis_transform(),
        )
    _curve(below, curves.first, PLOT_ORANGE, "1", width=2.4)
    _curve(below, curves.second, PLOT_BLUE, "2")
    below.set_ylabel("|v|")
    below.set_xlabel("token")
    if min(_finite([*curves.first, *curves.second]), default=0.0) > 0:
        below.set_yscale("log")  # the start token is some twenty times longer than the others
        below.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        below.yaxis.set_major_formatter("{x:g}")
        below.yaxis.set_minor_formatter(NullFormatter())
    below.legend(loc="upper right", framealpha=0.9)
    for axes in (above, below):
        axes.grid(True, axis="y", which="major", color=PLOT_GRID)
        axes.margins(x=0.01)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for border in curves.borders:
            axes.axvline(border - 0.5, color=PLOT_GREY, linestyle="--", linewidth=1.2)
    return figure_image(canvas)


def token_plots(curves: Sequence[TokenCurves], *, width_px: int = 1024, height_px: int = 800) -> Tensor:
    """One picture for each. -> [N, H, W, 3] in 0..1. Raises as `token_plot` does."""
    return torch.cat([token_plot(found, width_px=width_px, height_px=height_px) for found in curves])


def _curve(axes, values: Sequence[float | None], colour: str, name: str | None = None, *, width: float = 1.4) -> None:
    shown = np.array([np.nan if value is None else value for value in values], dtype=float)
    marker = "." if len(values) <= _MARKERS_UP_TO else ""
    axes.plot(np.arange(len(shown)), shown, color=colour, label=name, linewidth=width, marker=marker, markersize=5)


def _finite(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and np.isfinite(value)]
