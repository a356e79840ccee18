"""Ranked pictures on a sheet: frames around those that were kept, and what has no score."""

import math

import pytest
import torch

from clip_vae_lora.drawing.paper import CHOSEN
from clip_vae_lora.drawing.rank_sheet import rank_sheet


def framed(image) -> int:
    return int(((image - torch.tensor(CHOSEN) / 255).abs().amax(-1) < 1e-3).sum())


@pytest.mark.parametrize("count", [1, 5, 70])
def test_a_sheet_frames_the_kept_ones_only(count):
    images, scores = torch.zeros(count, 8, 6, 3), [0.5] * (count - 1) + [math.nan]
    none = rank_sheet(images, range(count), scores, [], "t")
    one = rank_sheet(images, range(count), scores, [0], "t")
    assert none.shape == one.shape and framed(none) == 0
    assert framed(one) == 240 * 240 - 232 * 232  # a frame four pixels wide


def test_a_sheet_without_pictures_or_scores_is_refused():
    with pytest.raises(ValueError, match="a score for each"):
        rank_sheet(torch.zeros(2, 4, 4, 3), [0, 1], [0.1], [], "t")
    with pytest.raises(ValueError, match="needs pictures"):
        rank_sheet(torch.zeros(2, 4, 4, 3), [], [0.1, 0.2], [], "t")
