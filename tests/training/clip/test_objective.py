"""The losses of CLIP trainings: shares of rows against the whole, and the whole against references in few lines."""

import math

import pytest
import torch
from torch.nn import functional

from clip_vae_lora.training.clip.objective import (
    CLASSES,
    CONTRASTIVE,
    LOSSES,
    SIGMOID,
    Factors,
    Truth,
    share_of_loss,
)
from clip_vae_lora.training.losses import contrastive_loss

B, C, E = 9, 4, 6


def _features() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = [functional.normalize(torch.randn(B, E, generator=generator), dim=-1) for _ in range(2)]
    return rows[0], rows[1]


TRUTH = Truth(torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 0]), torch.tensor([0, 1, 1, 3, 3, 3, 0, 2, 5]))
FACTORS = Factors(torch.tensor(1.9), torch.tensor(-3.0))


def _whole(loss: str, truth: Truth = TRUTH, factors: Factors = FACTORS) -> torch.Tensor:
    images, texts = _features()
    if loss == CLASSES:
        texts, truth = texts[:C], Truth(truth.pictures, truth.texts % C)
    return share_of_loss(loss, images, texts, factors, truth, torch.arange(B))


@pytest.mark.parametrize("loss", LOSSES)
def test_shares_of_rows_sum_to_the_whole(loss):
    images, texts = _features()
    truth = TRUTH
    if loss == CLASSES:
        texts, truth = texts[:C], Truth(TRUTH.pictures, TRUTH.texts % C)
    parts = [share_of_loss(loss, images, texts, FACTORS, truth, rows) for rows in torch.arange(B).split([2, 3, 4])]
    assert float(sum(parts)) == pytest.approx(float(_whole(loss)), rel=1e-6)  # float32


def test_the_contrastive_loss_is_the_packs_own_with_true_pairs_off_the_diagonal_left_out():
    images, texts = _features()
    fits = (TRUTH.texts[:, None] == TRUTH.texts) | (TRUTH.pictures[:, None] == TRUTH.pictures)
    assert fits.sum() > B  # there are some off the diagonal
    expected = contrastive_loss(images, texts, FACTORS.scale, fits)
    assert float(_whole(CONTRASTIVE)) == pytest.approx(float(expected), rel=1e-6)


def test_the_contrastive_factor_is_at_most_a_hundred_and_the_sigmoids_may_be_more():
    at_most, more = Factors(torch.tensor(math.log(100))), Factors(torch.tensor(5.0))
    assert torch.equal(_whole(CONTRASTIVE, factors=at_most), _whole(CONTRASTIVE, factors=more))
    assert not torch.equal(_whole(SIGMOID, factors=at_most), _whole(SIGMOID, factors=more))


def test_the_sigmoid_loss_is_the_sum_over_pairs_divided_by_the_batch():
    images, texts = _features()
    total = 0.0
    for i in range(B):
        for j in range(B):
            same = TRUTH.texts[i] == TRUTH.texts[j] or TRUTH.pictures[i] == TRUTH.pictures[j]
            if i != j and same:
                continue
            logit = math.exp(1.9) * float(images[i].double() @ texts[j].double()) - 3.0
            total -= math.log(1 / (1 + math.exp(-(1 if i == j else -1) * logit)))
    assert float(_whole(SIGMOID)) == pytest.approx(total / B, rel=1e-5)  # float32


def test_the_loss_of_classes_is_the_cross_entropy_among_their_texts():
    images, texts = _features()
    expected = functional.cross_entropy(math.exp(1.9) * images @ texts[:C].T, TRUTH.texts % C)
    assert float(_whole(CLASSES)) == pytest.approx(float(expected), rel=1e-6)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="expected one of contrastive, sigmoid, classes"):
        _whole("hinge")
