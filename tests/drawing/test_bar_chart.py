"""Bar charts that one can read: as long as the values say, within their edges, no more bars than have room."""

import pytest
import torch

from clip_vae_lora.drawing.bar_chart import MAX_BARS, bar_chart, bar_charts


def bars(chart):
    """Rows of dark or light blue pixels, as (top, bottom) pairs."""
    blue = (chart[0, :, :, 2] - chart[0, :, :, 0] > 0.15).sum(1) > 3
    edges = (blue[1:].int() - blue[:-1].int()).tolist()
    return [
        (top, bottom)
        for top, bottom in zip([i for i, e in enumerate(edges) if e == 1], [i for i, e in enumerate(edges) if e == -1])
    ]


def test_the_longest_bar_is_on_top_and_lengths_are_the_values():
    chart = bar_chart(["b", "a", "c"], [0.25, 0.5, 1.0], "t")
    lengths = [
        (chart[0, (top + bottom) // 2, :, 2] - chart[0, (top + bottom) // 2, :, 0] > 0.15).sum().item()
        for top, bottom in bars(chart)
    ]
    assert len(lengths) == 3
    assert lengths[1] / lengths[0] == pytest.approx(0.5, abs=0.01)  # a pixel
    assert lengths[2] / lengths[0] == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("count", [1, MAX_BARS, MAX_BARS + 1, 500])
def test_no_more_bars_than_can_be_read(count):
    chart = bar_chart([f"label {i} " + "x" * i for i in range(count)], [0.5] * count, "title " * 40, width_px=400)
    assert len(bars(chart)) == min(count, MAX_BARS) and chart.shape[2] == 400 and 0 <= chart.min() <= chart.max() <= 1


def test_nothing_is_drawn_over_the_edges():
    picture = torch.rand(1, 30, 90, 3)
    for width in (240, 640, 1500):
        chart = bar_chart(
            ["label\nwith lines", "W" * 9999, "猫"], [1.0, 0.0, 0.001], "t" * 999, width_px=width, thumbnail=picture
        )
        border = torch.cat(
            [
                chart[0, :4].flatten(0, 1),
                chart[0, -4:].flatten(0, 1),
                chart[0, :, :4].flatten(0, 1),
                chart[0, :, -4:].flatten(0, 1),
            ]
        )
        assert (border == border[0]).all()


@pytest.mark.parametrize(
    "labels, values, width, said",
    [
        ([], [], 640, "at least one"),
        (["a"], [], 640, "as many"),
        (["a"], [1.5], 640, "between 0 and 1"),
        (["a"], [float("nan")], 640, "between 0 and 1"),
        (["a"], [0.5], 100, "240"),
    ],
)
def test_a_chart_of_nothing_is_an_error(labels, values, width, said):
    with pytest.raises(ValueError, match=said):
        bar_chart(labels, values, "t", width_px=width)


def test_a_batch_of_pictures_gets_a_chart_each():
    pictures = torch.rand(2, 20, 30, 3)
    charts = bar_charts([("cat", {"cat": 0.9, "dog": 0.1}), ("dog", {"cat": 0.2, "dog": 0.8})], pictures)
    assert charts[1:].equal(bar_chart(["cat", "dog"], [0.2, 0.8], "dog", thumbnail=pictures[1]))
    with pytest.raises(ValueError, match="one chart for each picture"):
        bar_charts([("cat", {"cat": 0.9})], pictures)


def test_a_chart_counts_the_bars_it_was_not_given():
    without, with_more = (bar_chart(["a"], [1.0], "t", more=more) for more in (0, 9999))
    assert with_more.shape[1] > without.shape[1]
