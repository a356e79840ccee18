"""The course of a training as a picture: the losses of its steps, and what the validation says of each noise band."""

from collections.abc import Sequence

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

_BANDS = (PLOT_BLUE, PLOT_GREEN, PLOT_ORANGE, PLOT_RED)
NOISE = ("little noise", "", "", "much noise")  # the bands of a diffusion model's validation
_SMOOTH = 0.05  # of the steps, over which the losses are averaged
_MOST_DOTS = 4000
_SMALL_PX = 700  # a plot up to this width, as on a node, is written smaller


def course_plot(
    losses: Sequence[float],
    validation: Sequence[tuple[int, Sequence[float]]],
    title: str,
    *,
    width_px: int = 1024,
    height_px: int = 800,
    names: Sequence[str] = NOISE,
) -> Tensor:
    """The losses above, each a dot and their running mean a line; below the validation's, relative to the first, a
    line for each band and a thick one for their mean. -> [1, H, W, 3] in 0..1

    validation: (step, the loss of each band). names: of the bands; the empty ones are not written.

    Raises:
        ValueError: there is nothing to draw, or matplotlib is not installed.
    """
    if not losses and not validation:
        raise ValueError("a plot needs a step or more, but there is none: train first")
    canvas, size = new_figure(width_px, height_px), 10 if width_px > _SMALL_PX else 6
    write_title(canvas, title)
    above, below = canvas.figure.subplots(2, 1, sharex=True)
    if losses:
        every = max(1, len(losses) // _MOST_DOTS)
        steps = range(1, len(losses) + 1)
        above.plot(steps[::every], losses[::every], ".", color=PLOT_GRID, markersize=3)
        above.plot(steps[::every], running_mean(losses)[::every], color=PLOT_BLUE, label="loss, smoothed")
        _legend(above, size)
    above.set_ylabel("loss", fontsize=size)
    for band, colour in zip(range(len(validation[0][1]) if validation else 0), _BANDS):
        name = names[band] if band < len(names) else ""
        _relative(below, [(step, bands[band]) for step, bands in validation], colour, 1.2, name)
    _relative(below, [(step, sum(bands) / len(bands)) for step, bands in validation], "black", 2.4, "mean")
    below.axhline(1.0, color=PLOT_GREY, linestyle="--", linewidth=1.0)
    below.set_ylabel("validation", fontsize=size)
    below.set_xlabel("step", fontsize=size)
    if validation:
        _legend(below, size)
    for axes in (above, below):
        axes.grid(True, axis="y", color=PLOT_GRID)
        axes.tick_params(labelsize=size)
    return figure_image(canvas)


def running_mean(values: Sequence[float]) -> list[float]:
    """The mean of each value and those before it, as far back as a twentieth of all, at least ten."""
    width = max(10, round(_SMOOTH * len(values)))
    sums = torch.cat([torch.zeros(1, dtype=torch.float64), torch.tensor(values, dtype=torch.float64).cumsum(0)])
    ends = torch.arange(1, len(values) + 1)
    begins = (ends - width).clamp(min=0)
    return ((sums[ends] - sums[begins]) / (ends - begins)).tolist()


def _legend(axes, size: float) -> None:
    """The names of the lines above them, where they hide none; nothing without a line."""
    if not axes.get_legend_handles_labels()[0]:
        return
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=size, borderaxespad=0.0)


def _relative(axes, points: Sequence[tuple[int, float]], colour: str, width: float, name: str) -> None:
    first = points[0][1] if points else 0.0
    if first > 0:
        steps, values = zip(*points)
        axes.plot(steps, [value / first for value in values], ".-", color=colour, linewidth=width, label=name or None)
