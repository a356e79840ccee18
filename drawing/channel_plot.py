"""The channels of a latent's distribution as a picture: how much each tells, and where its values lie."""

from collections.abc import Sequence

from torch import Tensor

from .paper import PLOT_BLUE, PLOT_GREY, PLOT_GRID, PLOT_ORANGE, figure_image, new_figure


def channel_plot(
    kl: Sequence[float],
    mean: Sequence[float],
    std: Sequence[float],
    noise: Sequence[float],
    *,
    width_px: int = 1024,
    height_px: int = 800,
) -> Tensor:
    """Above, a bar of each channel's divergence in nats; below, the mean and the spread of its values, and how wide
    the distribution of one value is. One number for each channel. -> [1, H, W, 3] in 0..1

    Raises:
        ValueError: no channels, not as many numbers of each kind, or matplotlib is not installed.
    """
    if not kl or len({len(kl), len(mean), len(std), len(noise)}) != 1:
        raise ValueError(
            "a plot of channels needs one number of each kind for each channel, at least one channel; got "
            f"{len(kl)}, {len(mean)}, {len(std)} and {len(noise)}"
        )
    canvas = new_figure(width_px, height_px)
    from matplotlib.ticker import MaxNLocator

    above, below = canvas.figure.subplots(2, 1, sharex=True)
    channels = range(len(kl))
    above.bar(channels, kl, color=PLOT_BLUE)
    above.set_ylabel("KL (nats)")
    below.axhline(0, color=PLOT_GREY, linewidth=0.8)
    below.errorbar(
        channels,
        mean,
        yerr=std,
        fmt="o",
        color=PLOT_ORANGE,
        capsize=3,
        markersize=4,
        label="μ ± σ",
    )
    below.plot(
        channels,
        noise,
        "_",
        color=PLOT_BLUE,
        markersize=9,
        markeredgewidth=2,
        label="σ (q)",
    )
    below.set_ylabel("z")
    below.set_xlabel("#")
    canvas.figure.legend(loc="outside lower center", ncols=2, frameon=False)
    for axes in (above, below):
        axes.grid(True, axis="y", color=PLOT_GRID)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure_image(canvas)
