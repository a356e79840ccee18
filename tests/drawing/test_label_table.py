"""The table of pictures with their best labels."""

import pytest
import torch

from clip_vae_lora.drawing.label_table import MAX_COLUMNS, MAX_ROWS, label_table


def rows(pictures: int, labels: int) -> list[list[tuple[str, float]]]:
    return [[(f"label {n}", 1 / (n + 1)) for n in range(labels)] for _ in range(pictures)]


def test_a_table_has_a_row_for_each_picture_and_a_column_for_each_label():
    small, tall, wide = (
        label_table(torch.rand(n, 20, 30, 3), rows(n, k), ["t"] * n) for n, k in ((1, 2), (3, 2), (1, 4))
    )
    assert small.shape[0] == 1 and small.shape[3] == 3 and 0 <= float(small.min()) <= float(small.max()) <= 1
    assert tall.shape[1] == 3 * small.shape[1] and tall.shape[2] == small.shape[2]
    assert wide.shape[2] > small.shape[2] and wide.shape[1] == small.shape[1]


def test_a_huge_table_is_cut_and_says_so():
    most = label_table(torch.rand(MAX_ROWS, 4, 4, 3), rows(MAX_ROWS, MAX_COLUMNS), ["t"] * MAX_ROWS)
    cut = label_table(torch.rand(MAX_ROWS + 3, 4, 4, 3), rows(MAX_ROWS + 3, MAX_COLUMNS + 1), ["t"] * (MAX_ROWS + 3))
    assert cut.shape[2] == most.shape[2] and most.shape[1] < cut.shape[1] < most.shape[1] * 1.02  # one line more


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (300, 2)])
def test_pictures_of_any_shape_are_fitted_in(size):
    assert label_table(torch.rand(1, *size, 4), [[("x" * 500, 1.0), ("", 0.0)]], ["t" * 900]).shape[2] < 720


@pytest.mark.parametrize("ranked", [[], [[]], rows(2, 1)])
def test_rows_that_do_not_fit_the_pictures_are_refused(ranked):
    with pytest.raises(ValueError, match="a row of labels for each picture"):
        label_table(torch.rand(1, 4, 4, 3), ranked, ["t"])
